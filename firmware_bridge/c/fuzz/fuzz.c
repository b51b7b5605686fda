/* Whatever comes over the line, for libFuzzer. The input is a program: which framing, then pieces for the line, with time
 * between them. A piece may be bytes as they are, or content that is sealed as a frame of the session, so that what is
 * behind the CRC is reached too. */

#include <stdlib.h>
#include <string.h>

#include "board.h"

static uint8_t line[4096];
static size_t line_at, line_size;
static uint32_t now;
static board the_board;

size_t board_port_read(uint8_t *bytes, size_t most)
{
    size_t count = line_size - line_at < most ? line_size - line_at : most;
    memcpy(bytes, line + line_at, count);
    line_at += count;
    return count;
}

size_t board_port_write(const uint8_t *bytes, size_t count)
{
    (void)bytes;
    return now & 1 ? count : count / 2; /* a port that is full now and then */
}

uint32_t board_port_milliseconds(void)
{
    return now;
}

void board_port_make_safe(void)
{
}

uint32_t board_nonce(void)
{
    static uint32_t last = 0x12345678;
    return ++last;
}

/* --------------------------------------------------------------------------------------------------------------- table */

static char kept[64];

static const char *keep(const board_value *arguments, board_value *result)
{
    if (arguments[0].size > sizeof kept)
        return "too long";
    memcpy(kept, arguments[0].as.s, arguments[0].size);
    result->type = arguments[0].type;
    result->as.s = kept;
    result->size = arguments[0].size;
    return 0;
}

static const char *scale(const board_value *arguments, board_value *result)
{
    result->type = BOARD_FLOAT;
    result->as.f = arguments[0].as.b ? arguments[1].as.f : board_double_of(arguments[2].as.i);
    return 0;
}

static const char *get(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_INT;
    result->as.i = -1000000;
    return 0;
}

static const char *set(const board_value *arguments, board_value *result)
{
    (void)result;
    return arguments->as.i ? 0 : "zero";
}

static const board_argument text[] = {BOARD_ARG("text", BOARD_STR)};
static const board_argument data[] = {BOARD_ARG("data", BOARD_BYTES)};
static const board_argument three[] = {BOARD_ARG("up", BOARD_BOOL), BOARD_ARG_FLOAT("by", -2.5, 1e6), BOARD_ARG("n", BOARD_INT)};
static const board_argument level[] = {BOARD_ARG_INT("level", 0, 9)};
static const board_member members[] = {
    BOARD_METHOD("k", keep, text, 1, BOARD_STR, "", BOARD_CONTROL, "Keep."),
    BOARD_METHOD("b", keep, data, 1, BOARD_BYTES, "", BOARD_CONTROL, "Keep."),
    BOARD_METHOD("s", scale, three, 3, BOARD_FLOAT, "V", BOARD_READ, "Scale."),
    BOARD_SETTABLE("l", get, set, level, BOARD_INT, "mA", "Level."),
};
static const board_table table = {
    .name = "board", .driver = "Fuzzed", .doc = "", .identity = "", .safe_state = "", .members = members, .count = 4,
};

/* ---------------------------------------------------------------------------------------------------------------- line */

static void add(uint8_t byte)
{
    if (line_size < sizeof line)
        line[line_size++] = byte;
}

static void add_sealed(const uint8_t *content, size_t size, uint32_t key)
{
    uint32_t crc = board_crc32(key, content, size);
    for (size_t place = 0; place < size + 4; place++) {
        uint8_t byte = place < size ? content[place] : (uint8_t)(crc >> 8 * (place - size));
        if (byte == 0x7e || byte == 0x7d) {
            add(0x7d);
            byte ^= 0x20;
        }
        add(byte);
    }
    add(0x7e);
}

static void run(void)
{
    for (int turn = 0; turn < 8; turn++)
        board_poll(&the_board);
    line_at = line_size = 0;
}

/* The session that an initiator opens. */
static void open_session(uint8_t version)
{
    board_link *link = &the_board.by.link;
    uint8_t hello[20] = {0x10, version, 1, 1, 2, 3, 4, 0, 0, 0, 0, 0, 200, 16, 4, 0, 1, 0, 0, 0};
    for (int place = 0; place < 4; place++)
        hello[7 + place] = (uint8_t)(link->mine >> (24 - 8 * place));
    add_sealed(hello, sizeof hello, 0);
    run();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    const uint8_t *end = input + size;
    bool is_link;

    if (size < 2)
        return 0;
    now = 0;
    line_at = line_size = 0;
    is_link = *input++ & 1;
    board_init(&the_board, &table, is_link ? &board_over_link : &board_over_raw);
    if (is_link)
        open_session(1);
    while (end - input >= 3) {
        uint8_t how = input[0];
        size_t count = input[1];
        now += input[2] * (how & 8 ? 20u : 1u);
        input += 3;
        if (count > (size_t)(end - input))
            count = (size_t)(end - input);
        if (is_link && how & 1) {
            /* A fragment with a request in it: sealed with the number that is awaited. */
            board_link *link = &the_board.by.link;
            uint8_t content[260];
            uint8_t upper[8] = {0};
            size_t bytes = count < 250 ? count : 250;
            content[0] = (uint8_t)(0x20 | (how >> 4));
            content[1] = (uint8_t)(link->expected + (how & 2 ? 1 : 0));
            content[2] = (uint8_t)link->next;
            memcpy(content + 3, input, bytes);
            for (int place = 0; place < 4; place++) {
                upper[place] = (uint8_t)((link->expected >> 8) >> (24 - 8 * place));
                upper[4 + place] = (uint8_t)((link->next >> 8) >> (24 - 8 * place));
            }
            add_sealed(content, bytes + 3, board_crc32(link->key_in, upper, sizeof upper));
        } else if (is_link && how & 2) {
            /* Any other frame, sealed. */
            add_sealed(input, count, how & 4 ? 0 : board_crc32(the_board.by.link.key_in, (const uint8_t[8]){0}, 8));
        } else if (!is_link && how & 1) {
            add(0);
            add(0);
            add(0);
            add((uint8_t)count);
            add(0);
            for (size_t place = 0; place < count; place++)
                add(input[place]);
            add('\n');
        } else {
            for (size_t place = 0; place < count; place++)
                add(input[place]);
        }
        input += count;
        run();
    }
    return 0;
}
