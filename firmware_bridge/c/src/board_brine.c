#include "board.h"
#include "board_memory.h"

enum {
    NONE = 0x00,
    EMPTY_BYTES = 0x01,
    EMPTY_TUPLE = 0x02,
    TRUE = 0x03,
    FALSE = 0x04,
    TEXT = 0x08,
    BYTES_1 = 0x0a,
    TUPLE_1 = 0x10,
    INT_SHORT = 0x16,
    FLOAT = 0x18,
    COMPLEX = 0x1b,
    IMMEDIATE_FIRST = 0x20,
    IMMEDIATE_LAST = 0xef,
    IMMEDIATE_ZERO = 0x50,
};

#define MOST_DIGITS 20 /* of 64 bits, with a sign */

/* ------------------------------------------------------------------------------------------------------------ reading */

/* What a tag begins: its kind, and how long it is. */
enum { IS_NOTHING, IS_CONSTANT = 0x10, IS_BYTES = 0x20, IS_TUPLE = 0x30, IS_DIGITS = 0x40, IS_FLOAT = 0x50, IS_COMPLEX = 0x60,
       IS_TEXT = 0x70, IS_NEST = 0x80, IS_IMMEDIATE = 0x90 }; /* a nest holds one value: a slice or a frozenset */
enum { LENGTH_1 = 13, LENGTH_4 = 14 };                        /* a length of so many bytes follows; else it is the length */

static const uint8_t tags[] = {
    IS_CONSTANT, IS_BYTES, IS_TUPLE, IS_CONSTANT, IS_CONSTANT, IS_CONSTANT, IS_CONSTANT, IS_NOTHING,  /* 00 to 07 */
    IS_TEXT, IS_NOTHING, IS_BYTES | 1, IS_BYTES | 2, IS_BYTES | 3, IS_BYTES | 4,                      /* 08 to 0d */
    IS_BYTES | LENGTH_1, IS_BYTES | LENGTH_4, IS_TUPLE | 1, IS_TUPLE | 2, IS_TUPLE | 3, IS_TUPLE | 4, /* 0e to 13 */
    IS_TUPLE | LENGTH_1, IS_TUPLE | LENGTH_4, IS_DIGITS | LENGTH_1, IS_DIGITS | LENGTH_4,             /* 14 to 17 */
    IS_FLOAT | 8, IS_NEST, IS_NEST, IS_COMPLEX, /* of 16 */                                           /* 18 to 1b */
};

/* Takes one value off the front, of a tuple or a nest only its head. The kind; where its `size` bytes are, which for a
 * tuple is the count of its values. The tag of a constant or an immediate is right in front of them. */
static uint8_t take(board_cursor *from, const uint8_t **bytes, size_t *size)
{
    uint8_t tag, kind;
    uint32_t width = 0;

    if (from->at == from->end)
        return IS_NOTHING;
    tag = *from->at++;
    kind = tag < sizeof tags ? tags[tag] : tag >= IMMEDIATE_FIRST && tag <= IMMEDIATE_LAST ? IS_IMMEDIATE : IS_NOTHING;
    *size = kind & 15;
    kind &= 0xf0;
    if (*size >= LENGTH_1) {
        width = *size == LENGTH_1 ? 1 : 4;
        if ((size_t)(from->end - from->at) < width)
            return IS_NOTHING;
        for (*size = 0; width; width--)
            *size = *size << 8 | *from->at++;
    }
    if (kind == IS_COMPLEX)
        *size = 16;
    *bytes = from->at;
    if (*size > (size_t)(from->end - from->at)) /* each value of a tuple takes a byte at least */
        return IS_NOTHING;
    if (kind != IS_TUPLE)
        from->at += *size;
    return kind;
}

bool board_read_tuple(board_cursor *from, size_t *count)
{
    const uint8_t *bytes;

    return take(from, &bytes, count) == IS_TUPLE;
}

/* An int of digits, as Python's str() writes it. */
static bool read_digits(const uint8_t *digits, size_t size, board_int *number)
{
    bool negative = size && *digits == '-';
    board_uint sum = 0, most = (board_uint)BOARD_INT_MAX + negative;

    if (negative) {
        digits++;
        size--;
    }
    if (!size || (*digits == '0' && (size > 1 || negative)))
        return false;
    while (size--) {
        uint8_t digit = (uint8_t)(*digits++ - '0');
        if (digit > 9 || sum > BOARD_INT_MAX / 10 || sum * 10 > most - digit)
            return false;
        sum = sum * 10 + digit;
    }
    *number = (board_int)(negative ? 0 - sum : sum);
    return true;
}

bool board_read_int(board_cursor *from, board_int *number)
{
    board_value value;

    if (!board_read_value(from, &value) || value.type != BOARD_INT)
        return false;
    *number = value.as.i;
    return true;
}

bool board_read_text(board_cursor *from, const char **text, size_t *size)
{
    board_value value;

    if (!board_read_value(from, &value) || value.type != BOARD_STR)
        return false;
    *text = value.as.s;
    *size = value.size;
    return true;
}

bool board_read_value(board_cursor *from, board_value *value)
{
    const uint8_t *bytes;
    size_t size;
    uint64_t bits = 0;

    value->type = BOARD_BYTES;
    switch (take(from, &bytes, &size)) {
    case IS_CONSTANT:
        value->type = bytes[-1] == NONE ? BOARD_NONE : BOARD_BOOL;
        value->as.b = bytes[-1] == TRUE;
        return bytes[-1] <= FALSE;
    case IS_IMMEDIATE:
        value->type = BOARD_INT;
        value->as.i = bytes[-1] - IMMEDIATE_ZERO;
        return true;
    case IS_DIGITS:
        value->type = BOARD_INT;
        return read_digits(bytes, size, &value->as.i);
    case IS_FLOAT:
        value->type = BOARD_FLOAT;
        while (size--)
            bits = bits << 8 | *bytes++;
        memcpy(&value->as.f, &bits, sizeof bits);
        return true;
    case IS_TEXT:
        value->type = BOARD_STR;
        if (take(from, &bytes, &size) != IS_BYTES)
            return false;
        /* fallthrough */
    case IS_BYTES:
        value->as.s = (const char *)bytes;
        value->size = (uint16_t)size; /* no message is longer */
        return true;
    default:
        return false;
    }
}

bool board_read_any(board_cursor *from, board_cursor *what)
{
    size_t values = 1; /* that are still to come: no recursion, so no depth to bound */

    what->at = from->at;
    while (values--) {
        const uint8_t *bytes;
        size_t size;

        switch (take(from, &bytes, &size)) {
        case IS_NOTHING:
            return false;
        case IS_TUPLE:
            values += size;
            break;
        case IS_TEXT:
        case IS_NEST:
            values++;
            break;
        default:
            break;
        }
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

static void put_big_endian(board_sink *to, uint32_t number)
{
    for (int place = 24; place >= 0; place -= 8)
        board_put(to, (uint8_t)(number >> place));
}

/* The head of a tuple or of bytes; `one` is the tag for one item, and those for more follow it. */
static void put_head(board_sink *to, uint8_t one, size_t count)
{
    if (!count) {
        board_put(to, one == TUPLE_1 ? EMPTY_TUPLE : EMPTY_BYTES);
    } else if (count <= 4) {
        board_put(to, (uint8_t)(one + count - 1));
    } else if (count < 256) {
        board_put(to, (uint8_t)(one + 4));
        board_put(to, (uint8_t)count);
    } else {
        board_put(to, (uint8_t)(one + 5));
        put_big_endian(to, (uint32_t)count);
    }
}

void board_put_tuple(board_sink *to, size_t count)
{
    put_head(to, TUPLE_1, count);
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

void board_put_text_head(board_sink *to, size_t size)
{
    board_put(to, TEXT);
    put_head(to, BYTES_1, size);
}

void board_put_text(board_sink *to, const char *text)
{
    board_put_text_head(to, board_length(text));
    board_put_chars(to, text);
}

void board_put_value(board_sink *to, const board_value *value)
{
    uint64_t bits;

    switch (value->type) {
    case BOARD_BOOL:
        board_put_bool(to, value->as.b);
        break;
    case BOARD_INT:
        board_put_int(to, value->as.i);
        break;
    case BOARD_FLOAT:
        memcpy(&bits, &value->as.f, sizeof bits);
        board_put(to, FLOAT);
        put_big_endian(to, (uint32_t)(bits >> 32));
        put_big_endian(to, (uint32_t)bits);
        break;
    case BOARD_STR:
        board_put(to, TEXT);
        /* fallthrough */
    case BOARD_BYTES:
        put_head(to, BYTES_1, value->size);
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

int64_t board_double_order(double number)
{
    int64_t bits;

    memcpy(&bits, &number, sizeof bits);
    return bits < 0 ? INT64_MIN - bits : bits;
}
