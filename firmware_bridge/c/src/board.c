#include "board.h"
#include "board_memory.h"

#define CHUNK 32

void board_init(board *self, const board_table *table, board_framing framing)
{
    uint32_t now = board_port_milliseconds();

    memset(self, 0, sizeof *self);
    self->rpc.table = table;
    self->framing = (uint8_t)framing;
    board_port_make_safe();
    if (framing == BOARD_LINK)
        board_link_init(&self->by.link, now);
    else
        board_raw_init(&self->by.raw, now);
}

static void make_safe(board *self)
{
    if (self->armed)
        board_port_make_safe();
    self->armed = false;
}

static void heard(board *self, uint32_t at)
{
    self->heard_at = at;
    self->armed = true;
}

/* ------------------------------------------------------------------------------------------------------------ the link */

static void serve_link(board *self)
{
    board_link *link = &self->by.link;

    if (!link->inbox_whole || !board_link_idle(link))
        return;
    if (board_rpc_serve(&self->rpc, link->inbox, link->inbox_size))
        board_link_send(link, board_rpc_source, &self->rpc);
    else
        board_link_done(link);
}

static void notice_end(board *self)
{
    if (self->by.link.over) {
        self->by.link.over = false;
        self->armed = true; /* a session that was never used has ended too */
        make_safe(self);
    }
}

static void take_link(board *self, const uint8_t *bytes, size_t count, uint32_t now)
{
    while (count) {
        size_t used = board_link_receive(&self->by.link, bytes, count, now);
        bytes += used;
        count -= used;
        notice_end(self);
        if (self->by.link.open && self->by.link.heard_at == now)
            heard(self, now);
        serve_link(self);
    }
}

static void give_link(board *self, uint32_t now)
{
    const uint8_t *bytes;
    size_t count;

    while ((count = board_link_output(&self->by.link, &bytes, now))) {
        size_t written = board_port_write(bytes, count);
        board_link_wrote(&self->by.link, written, now);
        if (written < count)
            break;
    }
    notice_end(self);
}

/* --------------------------------------------------------------------------------------------------------- plain frames */

static void take_raw(board *self, const uint8_t *bytes, size_t count, uint32_t now)
{
    while (count && !self->by.raw.sending) {
        size_t used = board_raw_receive(&self->by.raw, bytes, count, now);
        bytes += used;
        count -= used;
        if (self->by.raw.whole) {
            heard(self, now);
            board_raw_done(&self->by.raw, board_rpc_serve(&self->rpc, self->by.raw.inbox, self->by.raw.size));
        }
    }
}

static void give_raw(board *self)
{
    const uint8_t *bytes;
    size_t count;

    while ((count = board_raw_output(&self->by.raw, &self->rpc, &bytes))) {
        size_t written = board_port_write(bytes, count);
        board_raw_wrote(&self->by.raw, written);
        if (written < count)
            break;
    }
}

/* ------------------------------------------------------------------------------------------------------------- the loop */

void board_poll(board *self)
{
    uint8_t chunk[CHUNK];
    size_t count;

    if (self->framing == BOARD_LINK) {
        do {
            count = board_port_read(chunk, sizeof chunk);
            take_link(self, chunk, count, board_port_milliseconds());
            give_link(self, board_port_milliseconds());
        } while (count == sizeof chunk);
        serve_link(self); /* what waited for the answer before it */
    } else {
        /* One byte at a time: what comes behind a request stays in the port until that is answered. */
        while (!self->by.raw.sending && (count = board_port_read(chunk, 1)))
            take_raw(self, chunk, count, board_port_milliseconds());
        give_raw(self);
    }
    if (BOARD_DEAD_MAN_MS && self->armed && board_port_milliseconds() - self->heard_at >= BOARD_DEAD_MAN_MS)
        make_safe(self);
}
