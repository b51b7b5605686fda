#include "board.h"
#include "board_memory.h"

enum {
    NONE = 0x00,
    EMPTY_BYTES = 0x01,
    EMPTY_TUPLE = 0x02,
    TRUE = 0x03,
    FALSE = 0x04,
    NOT_IMPLEMENTED = 0x05,
    ELLIPSIS = 0x06,
    TEXT = 0x08,
    BYTES_1 = 0x0a,
    BYTES_4 = 0x0d,
    BYTES_SHORT = 0x0e,
    BYTES_LONG = 0x0f,
    TUPLE_1 = 0x10,
    TUPLE_4 = 0x13,
    TUPLE_SHORT = 0x14,
    TUPLE_LONG = 0x15,
    INT_SHORT = 0x16,
    INT_LONG = 0x17,
    FLOAT = 0x18,
    SLICE = 0x19,
    FROZENSET = 0x1a,
    COMPLEX = 0x1b,
    IMMEDIATE_FIRST = 0x20,
    IMMEDIATE_LAST = 0xef,
    IMMEDIATE_ZERO = 0x50,
};

#define MOST_DIGITS 20 /* of 64 bits, with a sign */

/* ------------------------------------------------------------------------------------------------------------ reading */

static size_t left(const board_cursor *from)
{
    return (size_t)(from->end - from->at);
}

static bool read_tag(board_cursor *from, uint8_t *tag)
{
    if (from->at == from->end)
        return false;
    *tag = *from->at++;
    return true;
}

/* A length of one byte, or of four. */
static bool read_length(board_cursor *from, bool is_long, size_t *length)
{
    size_t width = is_long ? 4 : 1;

    if (left(from) < width)
        return false;
    *length = 0;
    while (width--)
        *length = *length << 8 | *from->at++;
    return true;
}

bool board_read_tuple(board_cursor *from, size_t *count)
{
    uint8_t tag;

    if (!read_tag(from, &tag))
        return false;
    if (tag == EMPTY_TUPLE)
        *count = 0;
    else if (tag >= TUPLE_1 && tag <= TUPLE_4)
        *count = (size_t)(tag - TUPLE_1 + 1);
    else if (tag != TUPLE_SHORT && tag != TUPLE_LONG)
        return false;
    else if (!read_length(from, tag == TUPLE_LONG, count))
        return false;
    return *count <= left(from); /* each value takes a byte at least */
}

/* The bytes of a value whose tag was read. */
static bool read_bytes(board_cursor *from, uint8_t tag, const uint8_t **bytes, size_t *size)
{
    if (tag == EMPTY_BYTES)
        *size = 0;
    else if (tag >= BYTES_1 && tag <= BYTES_4)
        *size = (size_t)(tag - BYTES_1 + 1);
    else if (tag != BYTES_SHORT && tag != BYTES_LONG)
        return false;
    else if (!read_length(from, tag == BYTES_LONG, size))
        return false;
    if (*size > left(from))
        return false;
    *bytes = from->at;
    from->at += *size;
    return true;
}

/* An int of digits, as Python's str() writes it. */
static bool read_digits(board_cursor *from, bool is_long, board_int *number)
{
    const uint8_t *digits;
    size_t size;
    bool negative;
    board_uint sum = 0, most = BOARD_INT_MAX;

    if (!read_length(from, is_long, &size) || !size || size > left(from))
        return false;
    digits = from->at;
    from->at += size;
    negative = *digits == '-';
    if (negative) {
        digits++;
        size--;
    }
    if (!size || (digits[0] == '0' && (size > 1 || negative)))
        return false;
    most += negative;
    while (size--) {
        uint8_t digit = (uint8_t)(*digits++ - '0');
        if (digit > 9 || sum > BOARD_INT_MAX / 10 || sum * 10 > most - digit)
            return false;
        sum = sum * 10 + digit;
    }
    *number = (board_int)(negative ? 0 - sum : sum);
    return true;
}

static bool read_int(board_cursor *from, uint8_t tag, board_int *number)
{
    if (tag >= IMMEDIATE_FIRST && tag <= IMMEDIATE_LAST) {
        *number = tag - IMMEDIATE_ZERO;
        return true;
    }
    return (tag == INT_SHORT || tag == INT_LONG) && read_digits(from, tag == INT_LONG, number);
}

bool board_read_int(board_cursor *from, board_int *number)
{
    uint8_t tag;

    return read_tag(from, &tag) && read_int(from, tag, number);
}

static bool read_text(board_cursor *from, const char **text, size_t *size)
{
    uint8_t tag;
    const uint8_t *bytes;

    if (!read_tag(from, &tag) || !read_bytes(from, tag, &bytes, size))
        return false;
    *text = (const char *)bytes;
    return true;
}

bool board_read_text(board_cursor *from, const char **text, size_t *size)
{
    uint8_t tag;

    return read_tag(from, &tag) && tag == TEXT && read_text(from, text, size);
}

static bool read_float(board_cursor *from, double *number)
{
    uint64_t bits = 0;

    if (left(from) < 8)
        return false;
    for (int place = 0; place < 8; place++)
        bits = bits << 8 | *from->at++;
    memcpy(number, &bits, sizeof bits);
    return true;
}

bool board_read_value(board_cursor *from, board_value *value)
{
    uint8_t tag;
    const uint8_t *bytes;
    size_t size = 0;
    bool good = true;

    if (!read_tag(from, &tag))
        return false;
    if (tag == NONE) {
        value->type = BOARD_NONE;
    } else if (tag == TRUE || tag == FALSE) {
        value->type = BOARD_BOOL;
        value->as.b = tag == TRUE;
    } else if (tag == FLOAT) {
        value->type = BOARD_FLOAT;
        good = read_float(from, &value->as.f);
    } else if (tag == TEXT) {
        value->type = BOARD_STR;
        good = read_text(from, &value->as.s, &size);
    } else if (read_bytes(from, tag, &bytes, &size)) {
        value->type = BOARD_BYTES;
        value->as.s = (const char *)bytes;
    } else {
        value->type = BOARD_INT;
        good = read_int(from, tag, &value->as.i);
    }
    value->size = (uint16_t)size; /* no message is longer */
    return good;
}

bool board_read_any(board_cursor *from, board_cursor *what)
{
    size_t values = 1; /* that are still to come: no recursion, so no depth to bound */

    what->at = from->at;
    while (values--) {
        board_cursor before = *from;
        uint8_t tag;
        const uint8_t *bytes;
        size_t size;
        board_int number;

        if (board_read_tuple(from, &size)) {
            values += size;
            continue;
        }
        *from = before;
        if (!read_tag(from, &tag))
            return false;
        if (tag == TEXT || tag == SLICE || tag == FROZENSET)
            values++;
        else if (tag == FLOAT || tag == COMPLEX) {
            size = tag == FLOAT ? 8 : 16;
            if (left(from) < size)
                return false;
            from->at += size;
        } else if (tag == INT_SHORT || tag == INT_LONG) {
            if (!read_length(from, tag == INT_LONG, &size) || size > left(from))
                return false;
            from->at += size;
        } else if (tag != NONE && tag != TRUE && tag != FALSE && tag != NOT_IMPLEMENTED && tag != ELLIPSIS &&
                   !read_bytes(from, tag, &bytes, &size) && !read_int(from, tag, &number))
            return false;
    }
    what->end = from->at;
    return true;
}

/* ------------------------------------------------------------------------------------------------------------ writing */

void board_put(board_sink *to, uint8_t byte)
{
    if (to->count >= to->skip && to->count - to->skip < to->room)
        to->at[to->count - to->skip] = byte;
    to->count++;
}

void board_put_raw(board_sink *to, const void *bytes, size_t size)
{
    const uint8_t *each = bytes;

    while (size--)
        board_put(to, *each++);
}

size_t board_length(const char *text)
{
    const char *end = text;

    while (*end)
        end++;
    return (size_t)(end - text);
}

void board_put_chars(board_sink *to, const char *text)
{
    board_put_raw(to, text, board_length(text));
}

static void put_length(board_sink *to, size_t length)
{
    for (int place = 3; place >= 0; place--)
        board_put(to, (uint8_t)(length >> 8 * place));
}

void board_put_tuple(board_sink *to, size_t count)
{
    if (!count) {
        board_put(to, EMPTY_TUPLE);
    } else if (count <= 4) {
        board_put(to, (uint8_t)(TUPLE_1 + count - 1));
    } else if (count < 256) {
        board_put(to, TUPLE_SHORT);
        board_put(to, (uint8_t)count);
    } else {
        board_put(to, TUPLE_LONG);
        put_length(to, count);
    }
}

#if BOARD_INT_BITS == 64
/* Divides by ten in steps of 16 bits, which needs no division of 64 bits; the remainder. */
static uint8_t divide_by_10(uint64_t *number)
{
    uint64_t quotient = 0;
    uint32_t rest = 0;

    for (int place = 48; place >= 0; place -= 16) {
        uint32_t part = rest << 16 | (uint16_t)(*number >> place);
        quotient = quotient << 16 | part / 10;
        rest = part % 10;
    }
    *number = quotient;
    return (uint8_t)rest;
}
#else
static uint8_t divide_by_10(uint32_t *number)
{
    uint8_t rest = (uint8_t)(*number % 10);

    *number /= 10;
    return rest;
}
#endif

void board_put_int(board_sink *to, board_int number)
{
    uint8_t digits[MOST_DIGITS];
    uint8_t first = MOST_DIGITS;
    board_uint rest = number < 0 ? 0 - (board_uint)number : (board_uint)number;

    if (number >= IMMEDIATE_FIRST - IMMEDIATE_ZERO && number <= IMMEDIATE_LAST - IMMEDIATE_ZERO) {
        board_put(to, (uint8_t)(number + IMMEDIATE_ZERO));
        return;
    }
    while (rest)
        digits[--first] = (uint8_t)('0' + divide_by_10(&rest));
    if (number < 0)
        digits[--first] = '-';
    board_put(to, INT_SHORT);
    board_put(to, (uint8_t)(MOST_DIGITS - first));
    board_put_raw(to, digits + first, (size_t)(MOST_DIGITS - first));
}

void board_put_bool(board_sink *to, bool truth)
{
    board_put(to, truth ? TRUE : FALSE);
}

static void put_bytes_head(board_sink *to, size_t size)
{
    if (!size) {
        board_put(to, EMPTY_BYTES);
    } else if (size <= 4) {
        board_put(to, (uint8_t)(BYTES_1 + size - 1));
    } else if (size < 256) {
        board_put(to, BYTES_SHORT);
        board_put(to, (uint8_t)size);
    } else {
        board_put(to, BYTES_LONG);
        put_length(to, size);
    }
}

void board_put_text_head(board_sink *to, size_t size)
{
    board_put(to, TEXT);
    put_bytes_head(to, size);
}

void board_put_text(board_sink *to, const char *text)
{
    board_put_text_head(to, board_length(text));
    board_put_chars(to, text);
}

static void put_float(board_sink *to, double number)
{
    uint64_t bits;

    memcpy(&bits, &number, sizeof bits);
    board_put(to, FLOAT);
    for (int place = 56; place >= 0; place -= 8)
        board_put(to, (uint8_t)(bits >> place));
}

void board_put_value(board_sink *to, const board_value *value)
{
    switch (value->type) {
    case BOARD_BOOL:
        board_put_bool(to, value->as.b);
        break;
    case BOARD_INT:
        board_put_int(to, value->as.i);
        break;
    case BOARD_FLOAT:
        put_float(to, value->as.f);
        break;
    case BOARD_STR:
        board_put_text_head(to, value->size);
        board_put_raw(to, value->as.s, value->size);
        break;
    case BOARD_BYTES:
        put_bytes_head(to, value->size);
        board_put_raw(to, value->as.s, value->size);
        break;
    default:
        board_put(to, NONE);
        break;
    }
}

/* ------------------------------------------------------------------------- doubles, without the compiler's own routines */

double board_double_of(board_int number)
{
    board_uint bits = number < 0 ? 0 - (board_uint)number : (board_uint)number;
    uint32_t exponent = 1023 + BOARD_INT_BITS - 1;
    uint64_t made = 0;
    double as_double;

    if (bits) {
        while (!(bits >> (BOARD_INT_BITS - 1))) {
            bits <<= 1;
            exponent--;
        }
        /* Without its first bit, which is understood; what has no place is cut off. */
        made = (uint64_t)(board_uint)(bits << 1) << (64 - BOARD_INT_BITS) >> 12 | (uint64_t)exponent << 52;
        if (number < 0)
            made |= (uint64_t)1 << 63;
    }
    memcpy(&as_double, &made, sizeof made);
    return as_double;
}

/* A number that grows with the double. */
static int64_t order_of(double number)
{
    int64_t bits;

    memcpy(&bits, &number, sizeof bits);
    return bits < 0 ? INT64_MIN - bits : bits;
}

bool board_double_less(double one, double other)
{
    return order_of(one) < order_of(other);
}

bool board_is_nan(double number)
{
    uint64_t bits;

    memcpy(&bits, &number, sizeof bits);
    return (bits & ~((uint64_t)1 << 63)) > (uint64_t)0x7ff << 52;
}
