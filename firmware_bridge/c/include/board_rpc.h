/* What a request means, and the answer to it; and plain RPyC frames for peers that have no link. */

#ifndef BOARD_RPC_H
#define BOARD_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board_brine.h"
#include "board_config.h"
#include "board_table.h"

#define BOARD_QUOTE 24 /* characters of a peer's own that an error quotes, at most */

/* An answer in the form in which it is kept until it has been sent. It may quote the request, which stays as long. */
typedef struct {
    uint8_t kind;
    uint16_t number;   /* of the object that it is about */
    const char *error; /* see `fail` in board_rpc.c, as for the rest */
    const char *problem;
    const board_member *member;
    const board_argument *argument;
    board_cursor seq; /* as it came */
    board_cursor echo;
    board_value value;
    const char *quoted;
    char quote[BOARD_QUOTE + 1];
} board_answer;

typedef struct {
    const board_table *table;
    board_answer answer;
} board_rpc;

/* Does what one message asks for; whether there is an answer, which `board_rpc_source` makes. */
bool board_rpc_serve(board_rpc *self, const uint8_t *message, size_t size);

/* See board_source; `of` is a board_rpc. */
size_t board_rpc_source(void *of, size_t offset, uint8_t *bytes, size_t room);

/* -------------------------------------------------------------------------------------------------------- plain frames */

typedef struct {
    bool skips; /* until the line is quiet: what came is no frame */
    bool whole; /* a message is there */
    bool sending;
    uint16_t out_size, out_at;
    uint32_t came_at;
    uint32_t size;           /* of the frame's data */
    uint32_t taken;          /* bytes of the frame so far */
    size_t sent, sent_whole; /* of the answer's frame */
    uint8_t out[BOARD_FRAME];
    uint8_t inbox[BOARD_MESSAGE];
} board_raw;

void board_raw_init(board_raw *self, uint32_t now);
/* Takes bytes from the line, up to the end of the first message that is whole; how many. */
size_t board_raw_receive(board_raw *self, const uint8_t *bytes, size_t count, uint32_t now);
/* The message is dealt with; `answers` if its answer is to be sent. */
void board_raw_done(board_raw *self, bool answers);
/* The bytes that are to be written now; then `board_raw_wrote` so many of them. */
size_t board_raw_output(board_raw *self, board_rpc *rpc, const uint8_t **bytes);
void board_raw_wrote(board_raw *self, size_t count);

#endif
