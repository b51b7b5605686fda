#include "board.h"
#include "board_memory.h"

#define CHUNK 32

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

void board_init(board *self, const board_table *table, const board_framing *framing)
{
    memset(self, 0, sizeof *self);
    self->rpc.table = table;
    self->framing = framing;
    board_port_make_safe();
    framing->init(self, board_port_milliseconds());
}

void board_poll(board *self)
{
    self->framing->poll(self);
#if BOARD_DEAD_MAN_MS
    if (board_port_milliseconds() - self->heard_at >= BOARD_DEAD_MAN_MS)
        make_safe(self);
#endif
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
}

static void init_link(board *self, uint32_t now)
{
    board_link_init(&self->by.link, now);
}

static void poll_link(board *self)
{
    uint8_t chunk[CHUNK];
    size_t count;

    do {
        count = board_port_read(chunk, sizeof chunk);
        take_link(self, chunk, count, board_port_milliseconds());
        notice_end(self); /* before a new session can call anything: that begins with what we give now */
        give_link(self, board_port_milliseconds());
    } while (count == sizeof chunk);
    serve_link(self); /* what waited for the answer before it */
}

const board_framing board_over_link = {init_link, poll_link};

/* --------------------------------------------------------------------------------------------------------- plain frames */

static void take_raw(board *self, uint8_t byte, uint32_t now)
{
    board_raw *raw = &self->by.raw;

    board_raw_receive(raw, &byte, 1, now);
    if (raw->whole) {
        size_t size = raw->size < BOARD_MESSAGE ? raw->size : BOARD_MESSAGE;
        heard(self, now);
        board_raw_done(raw, board_rpc_serve(&self->rpc, raw->inbox, size));
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

static void init_raw(board *self, uint32_t now)
{
    board_raw_init(&self->by.raw, now);
}

static void poll_raw(board *self)
{
    uint8_t byte;

    /* One at a time: what comes behind a request stays in the port until that is answered. */
    while (!self->by.raw.sending && board_port_read(&byte, 1))
        take_raw(self, byte, board_port_milliseconds());
    give_raw(self);
}

const board_framing board_over_raw = {init_raw, poll_raw};
