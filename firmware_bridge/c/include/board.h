/* A board that serves its functions over RPyC: what an application sees of the library.
 *
 *     static const board_member members[] = { BOARD_METHOD(...), BOARD_PROPERTY(...), ... };
 *     static const board_table table = { ... };
 *     static board the_board;
 *
 *     board_init(&the_board, &table, BOARD_LINK);
 *     for (;;)
 *         board_poll(&the_board);
 *
 * and the four functions at the end of this file, which the port gives. Nothing here waits, and nothing is allocated.
 */

#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board_config.h"
#include "board_link.h"
#include "board_rpc.h"
#include "board_table.h"

/* --------------------------------------------------------------------------------------------------------- the board */

struct board;

/* How messages are carried. What is not used is no part of the image. */
typedef struct {
    void (*init)(struct board *self, uint32_t now);
    void (*poll)(struct board *self);
} board_framing;

extern const board_framing board_over_link; /* the reliable link, for a gateway or gateway.connect("serial://...") */
extern const board_framing board_over_raw;  /* plain RPyC frames, for a stock peer: "serial://...?framing=raw" */

typedef struct board {
    bool armed; /* something came since the outputs were made safe */
    uint32_t heard_at;
    const board_framing *framing;
    board_rpc rpc;
    union {
        board_link link;
        board_raw raw;
    } by;
} board;

/* Makes the outputs safe, and begins. `table` stays the caller's and must not change. */
void board_init(board *self, const board_table *table, const board_framing *framing);

/* Does what is to be done now: to be called again and again, at least every 10 ms. It waits for nothing but the
 * functions of the table. */
void board_poll(board *self);

/* ---------------------------------------------------------------------------------------------------------- the port */

/* Up to `most` bytes that have come, at once; how many. */
size_t board_port_read(uint8_t *bytes, size_t most);
/* As many of `count` bytes as can be taken at once; how many. */
size_t board_port_write(const uint8_t *bytes, size_t count);
/* A clock in milliseconds that goes round after 2^32. */
uint32_t board_port_milliseconds(void);
/* Brings every output to its safe state. Called at the start, when the host is gone or began anew, and on demand. */
void board_port_make_safe(void);

#endif
