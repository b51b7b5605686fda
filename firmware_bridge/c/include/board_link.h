/* The reliable serial link, the end that serves: docs/reference/serial-link.md says what is on the line. */

#ifndef BOARD_LINK_H
#define BOARD_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "board_config.h"

#define BOARD_HELLO 32 /* bytes of the longest HELLO */
#define BOARD_CONTENT (BOARD_FRAME > BOARD_HELLO ? BOARD_FRAME : BOARD_HELLO)
#define BOARD_PAYLOAD (BOARD_FRAME - 3)

/* Makes bytes `offset` to `offset` + `room` of a message; how many the whole message has. */
typedef size_t (*board_source)(void *of, size_t offset, uint8_t *bytes, size_t room);

typedef struct {
    uint32_t sent_at;
    uint16_t size;
    uint8_t flags;
    uint8_t times; /* it was sent */
    uint8_t payload[BOARD_PAYLOAD];
} board_slot;

/* The small fields are first: instructions reach them there that are half as long. */
typedef struct board_link {
    bool open;
    bool over; /* a session has ended: for the user, who takes it back */
    bool hello_due, ack_due, ack_polls;
    uint8_t unacknowledged; /* frames that came since we acknowledged any */
    uint8_t window, room;   /* of the peer */
    bool inbox_whole;       /* a message is there: `board_link_done` when it has been dealt with */
    bool told_full;
    bool ended; /* the peer sends nothing more on this stream, and we have not said so of us */
    bool in_escaped, in_too_long;
    uint16_t pause; /* until the next HELLO */
    uint16_t inbox_size, in_size, out_size, out_at;
    uint16_t payload; /* that both ends take */
    /* the session */
    uint32_t mine, theirs; /* nonces; theirs is 0 while none is prepared */
    uint32_t key_in, key_out;
    uint32_t expected;
    uint32_t first, next, filled; /* numbers: the first that is not acknowledged, to be sent first, to be made */
    board_source source;
    void *source_of;
    size_t source_at;
    /* times */
    uint32_t now; /* of the call */
    uint32_t hello_at, heard_at, polled_at, ack_at, wrote_at;
    /* what is under way */
    board_slot slots[BOARD_WINDOW];
    uint8_t in[BOARD_CONTENT + 4];
    uint8_t out[2 * (BOARD_CONTENT + 4) + 2];
    uint8_t inbox[BOARD_MESSAGE];
} board_link;

void board_link_init(board_link *self, uint32_t now);

/* Takes bytes from the line, up to the end of the first message that is whole; how many. */
size_t board_link_receive(board_link *self, const uint8_t *bytes, size_t count, uint32_t now);

/* The message in the inbox is dealt with. */
void board_link_done(board_link *self);

/* Sends a message, as fast as the peer takes it: `source` makes it. Only while `board_link_idle`. */
void board_link_send(board_link *self, board_source source, void *of);

/* Whether the last message has been made. */
bool board_link_idle(const board_link *self);

/* The bytes that are to be written now; then `board_link_wrote` so many of them. */
size_t board_link_output(board_link *self, const uint8_t **bytes, uint32_t now);
void board_link_wrote(board_link *self, size_t count, uint32_t now);

uint32_t board_crc32(uint32_t key, const uint8_t *bytes, size_t count);

/* A number that this board has not used in any session before, not 0. `board_nonce.c` has one that needs RAM which a reset
 * leaves alone (`.noinit`); a port with a source of randomness, or a counter in flash, leaves that file out. */
uint32_t board_nonce(void);

#endif
