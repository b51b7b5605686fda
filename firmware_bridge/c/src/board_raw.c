#include "board.h"

/* length, 4 bytes | compressed, 1 byte | data | end, 1 byte */
#define HEAD 5
#define END 0x0a
#define LONGEST 0x10000 /* that anybody sends a board */
#define QUIET_MS 100 /* what comes after so long is a new frame: whatever came before was none */

void board_raw_init(board_raw *self, uint32_t now)
{
    self->came_at = now;
    self->taken = 0;
    self->skips = self->whole = self->sending = false;
    self->out_size = self->out_at = 0;
}

static void take(board_raw *self, uint8_t byte)
{
    uint32_t place = self->taken++;

    if (place == 0)
        self->size = 0;
    if (place < 4) {
        self->size = self->size << 8 | byte;
    } else if (place == 4) {
        self->skips = byte || self->size > LONGEST; /* compressed, or noise */
    } else if (place < HEAD + self->size) {
        if (place - HEAD < BOARD_MESSAGE) /* what is longer is cut off, and refused for it */
            self->inbox[place - HEAD] = byte;
    } else {
        self->taken = 0;
        self->whole = byte == END && self->size;
        self->skips = byte != END;
    }
}

size_t board_raw_receive(board_raw *self, const uint8_t *bytes, size_t count, uint32_t now)
{
    size_t used = 0;

    if (now - self->came_at >= QUIET_MS) {
        self->taken = 0;
        self->skips = false;
    }
    self->came_at = now;
    while (used < count && !self->whole) {
        uint8_t byte = bytes[used++];
        if (!self->skips)
            take(self, byte);
    }
    return used;
}

void board_raw_done(board_raw *self, bool answers)
{
    self->sending = answers;
    self->sent = self->sent_whole = 0;
    if (!answers)
        self->whole = false;
}

/* The next piece of the answer's frame. */
static void fill(board_raw *self, board_rpc *rpc)
{
    uint16_t size = 0;

    if (!self->sent_whole) {
        size_t data = board_rpc_source(rpc, 0, self->out, 0);
        for (int place = 24; place >= 0; place -= 8)
            self->out[size++] = (uint8_t)(data >> place);
        self->out[size++] = 0;
        self->sent_whole = HEAD + data;
    } else if (self->sent < self->sent_whole) {
        size_t left = self->sent_whole - self->sent;
        size = left < sizeof self->out ? (uint16_t)left : (uint16_t)sizeof self->out;
        board_rpc_source(rpc, self->sent - HEAD, self->out, size);
    } else {
        self->out[size++] = END;
        self->sending = self->whole = false;
    }
    self->sent += size;
    self->out_size = size;
    self->out_at = 0;
}

size_t board_raw_output(board_raw *self, board_rpc *rpc, const uint8_t **bytes)
{
    if (self->out_at == self->out_size && self->sending)
        fill(self, rpc);
    *bytes = self->out + self->out_at;
    return (size_t)(self->out_size - self->out_at);
}

void board_raw_wrote(board_raw *self, size_t count)
{
    self->out_at = (uint16_t)(self->out_at + count);
}
