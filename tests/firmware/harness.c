/* The library on this machine: what pytest says on stdin is done, and what came of it printed, a line for a line.
 *
 * brine HEX            bytes of the first value, and how it is written again; - where it is none, or none that is held
 * double INT           the double nearest to it, as hex
 * crc KEY HEX          the CRC
 * link NONCE...        a new link at time 0, with the nonces that it is to use
 * at MS HEX [DO...]    it gets the bytes; then `send=HEX`; what it writes, and what its user is told
 * rpc HEX              the answer to a message, made in pieces of every size
 * board FRAMING        a new board at time 0
 * poll MS HEX          it gets the bytes and is polled: what it writes, and how often its outputs were made safe
 */

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

#define MOST 20000

static uint32_t nonces[16];
static int nonces_left, nonces_used;

uint32_t board_nonce(void)
{
    return nonces_used < nonces_left ? nonces[nonces_used++] : 0x01020304u + (uint32_t)nonces_used++;
}

/* ---------------------------------------------------------------------------------------------------------------- port */

static uint8_t input[MOST], output[MOST];
static size_t input_at, input_size, output_size;
static uint32_t now;
static int safes;

size_t board_port_read(uint8_t *bytes, size_t most)
{
    size_t count = input_size - input_at < most ? input_size - input_at : most;
    memcpy(bytes, input + input_at, count);
    input_at += count;
    return count;
}

size_t board_port_write(const uint8_t *bytes, size_t count)
{
    size_t taken = count > 5 ? 5 : count; /* a port that takes little at a time */
    assert(output_size + taken <= MOST);
    memcpy(output + output_size, bytes, taken);
    output_size += taken;
    return taken;
}

uint32_t board_port_milliseconds(void)
{
    return now;
}

void board_port_make_safe(void)
{
    safes++;
}

/* --------------------------------------------------------------------------------------------------------------- table */

static board_int level = 5;
static char kept[64];

static const char *add(const board_value *arguments, board_value *result)
{
    result->type = BOARD_INT;
    result->as.i = arguments[0].as.i + arguments[1].as.i;
    return 0;
}

static const char *keep(const board_value *arguments, board_value *result)
{
    if (arguments->size > sizeof kept)
        return "that is too long";
    memcpy(kept, arguments->as.s, arguments->size);
    result->type = BOARD_STR;
    result->as.s = kept;
    result->size = arguments->size;
    return 0;
}

static const char *scale(const board_value *arguments, board_value *result)
{
    result->type = BOARD_FLOAT;
    result->as.f = arguments[0].as.b ? arguments[1].as.f : -arguments[1].as.f;
    return 0;
}

static const char *invert(const board_value *arguments, board_value *result)
{
    for (size_t place = 0; place < arguments->size && place < sizeof kept; place++)
        kept[place] = (char)~arguments->as.s[place];
    result->type = BOARD_BYTES;
    result->as.s = kept;
    result->size = arguments->size < sizeof kept ? arguments->size : (uint16_t)sizeof kept;
    return 0;
}

static const char *get_level(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_INT;
    result->as.i = level;
    return 0;
}

static const char *set_level(const board_value *arguments, board_value *result)
{
    (void)result;
    level = arguments->as.i;
    return 0;
}

static const board_argument two[] = {BOARD_ARG("a", BOARD_INT), BOARD_ARG("b", BOARD_INT)};
static const board_argument text[] = {BOARD_ARG("text", BOARD_STR)};
static const board_argument scaled[] = {BOARD_ARG("up", BOARD_BOOL), BOARD_ARG_FLOAT("by", -2.5, 1e6)};
static const board_argument data[] = {BOARD_ARG("data", BOARD_BYTES)};
static const board_argument levels[] = {BOARD_ARG_INT("level", 0, 9)};

static const board_member members[] = {
    BOARD_METHOD("add", add, two, 2, BOARD_INT, "", BOARD_READ, "The sum."),
    BOARD_METHOD("keep", keep, text, 1, BOARD_STR, "", BOARD_CONTROL, "Keep a text."),
    BOARD_METHOD("scale", scale, scaled, 2, BOARD_FLOAT, "V", BOARD_READ, "Scale."),
    BOARD_METHOD("invert", invert, data, 1, BOARD_BYTES, "", BOARD_READ, ""),
    BOARD_SETTABLE("level", get_level, set_level, levels, BOARD_INT, "mA", "The level."),
    BOARD_PROPERTY("fixed", get_level, BOARD_INT, "", "Can't be set."),
};

static const board_table table = {
    .name = "board", .driver = "Harness", .doc = "For tests.", .identity = "firmware 0", .safe_state = "level 0",
    .members = members, .count = sizeof members / sizeof *members,
};

/* ----------------------------------------------------------------------------------------------------------------- hex */

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t size = 0;
    unsigned byte;

    for (; *hex && *hex != '-' && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        bytes[size++] = (uint8_t)byte;
    return size;
}

static void print_hex(const uint8_t *bytes, size_t size)
{
    for (size_t place = 0; place < size; place++)
        printf("%02x", bytes[place]);
}

/* A copy of just that size, so that the sanitizer sees what is read behind it. */
static uint8_t *copy(const uint8_t *bytes, size_t size)
{
    uint8_t *made = malloc(size ? size : 1);
    memcpy(made, bytes, size);
    return made;
}

/* ------------------------------------------------------------------------------------------------------------ commands */

static void do_brine(const char *hex)
{
    static uint8_t bytes[MOST], again[MOST];
    size_t size = from_hex(hex, bytes);
    uint8_t *exact = copy(bytes, size);
    board_cursor from = {exact, exact + size}, what;
    board_value value;
    board_sink sink = {again, sizeof again, 0, 0};

    if (!board_read_any(&from, &what)) {
        printf("- -\n");
    } else {
        printf("%zu ", (size_t)(what.end - what.at));
        if (board_read_value(&what, &value)) {
            board_put_value(&sink, &value);
            print_hex(again, sink.count);
            printf("\n");
        } else {
            printf("-\n");
        }
    }
    free(exact);
}

typedef struct {
    uint8_t *bytes;
    size_t size;
} message;

static size_t give(void *of, size_t offset, uint8_t *bytes, size_t room)
{
    const message *from = of;
    size_t count = from->size - offset < room ? from->size - offset : room;
    memcpy(bytes, from->bytes + offset, count);
    return from->size;
}

static board_link the_link;

/* What it wants to write now, all of it. */
static void print_output(bool was_open)
{
    const uint8_t *bytes;
    size_t count;

    if (the_link.over) {
        printf("down ");
        the_link.over = false;
        was_open = false;
    }
    if (the_link.open && !was_open)
        printf("opened:%" PRIu32 " ", the_link.theirs);
    printf("= ");
    while ((count = board_link_output(&the_link, &bytes, now))) {
        print_hex(bytes, count);
        board_link_wrote(&the_link, count, now);
    }
    printf("\n");
}

static void do_at(char *words)
{
    static uint8_t bytes[MOST], sent[MOST];
    static message to_send;
    char *word = strtok(words, " ");
    size_t size, used = 0;
    uint8_t *exact;
    bool was_open = the_link.open;

    now = (uint32_t)atol(word);
    word = strtok(0, " ");
    size = from_hex(word, bytes);
    exact = copy(bytes, size);
    while (used < size) {
        used += board_link_receive(&the_link, exact + used, size - used, now);
        if (the_link.inbox_whole) {
            printf("received:");
            print_hex(the_link.inbox, the_link.inbox_size);
            printf(" ");
            board_link_done(&the_link);
        }
    }
    free(exact);
    while ((word = strtok(0, " "))) {
        if (!strncmp(word, "send=", 5)) {
            to_send.size = from_hex(word + 5, sent);
            to_send.bytes = sent;
            assert(board_link_idle(&the_link));
            board_link_send(&the_link, give, &to_send);
        }
    }
    print_output(was_open);
}

static void do_rpc(const char *hex)
{
    static uint8_t bytes[MOST], whole[MOST], pieces[MOST];
    size_t size = from_hex(hex, bytes), count;
    uint8_t *exact = copy(bytes, size);
    board_rpc rpc = {.table = &table};

    if (!board_rpc_serve(&rpc, exact, size)) {
        printf("-\n");
    } else {
        count = board_rpc_source(&rpc, 0, whole, sizeof whole);
        for (size_t step = 1; step < 70; step++) {
            for (size_t offset = 0; offset < count; offset += step) {
                uint8_t piece[70] = {0};
                assert(board_rpc_source(&rpc, offset, piece, step) == count);
                memcpy(pieces + offset, piece, count - offset < step ? count - offset : step);
            }
            assert(!memcmp(whole, pieces, count));
        }
        print_hex(whole, count);
        printf("\n");
    }
    free(exact);
}

static void do_poll(char *words)
{
    static board the_board;
    char *word = strtok(words, " ");

    if (!strcmp(word, "link") || !strcmp(word, "raw")) {
        now = 0;
        safes = 0;
        output_size = input_at = input_size = 0;
        board_init(&the_board, &table, *word == 'l' ? &board_over_link : &board_over_raw);
    } else {
        now = (uint32_t)atol(word);
        word = strtok(0, " ");
        input_size = from_hex(word, input);
        input_at = 0;
        output_size = 0;
        for (int turn = 0; turn < 4000; turn++)
            board_poll(&the_board);
        assert(input_at == input_size);
    }
    printf("%d ", safes);
    print_hex(output, output_size);
    printf("\n");
}

int main(void)
{
    static char line[4 * MOST];

    while (fgets(line, sizeof line, stdin)) {
        char *rest = strchr(line, ' ');
        line[strcspn(line, "\n")] = 0;
        assert(rest);
        *rest++ = 0;
        if (!strcmp(line, "brine")) {
            do_brine(rest);
        } else if (!strcmp(line, "double")) {
            double made = board_double_of((board_int)strtoll(rest, 0, 10));
            uint64_t bits;
            memcpy(&bits, &made, sizeof bits);
            printf("%016" PRIx64 "\n", bits);
        } else if (!strcmp(line, "crc")) {
            static uint8_t bytes[MOST];
            char *end;
            uint32_t key = (uint32_t)strtoul(rest, &end, 10);
            size_t size = from_hex(end + 1, bytes);
            printf("%" PRIu32 "\n", board_crc32(key, bytes, size));
        } else if (!strcmp(line, "link")) {
            nonces_left = nonces_used = 0;
            for (char *word = strtok(rest, " "); word; word = strtok(0, " "))
                nonces[nonces_left++] = (uint32_t)strtoul(word, 0, 10);
            now = 0;
            board_link_init(&the_link, now);
            printf("\n");
        } else if (!strcmp(line, "at")) {
            do_at(rest);
        } else if (!strcmp(line, "rpc")) {
            do_rpc(rest);
        } else if (!strcmp(line, "board") || !strcmp(line, "poll")) {
            do_poll(rest);
        } else {
            printf("?\n");
        }
        fflush(stdout);
    }
    return 0;
}
