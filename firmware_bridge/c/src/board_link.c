#include "board.h"
#include "board_memory.h"

enum { HELLO = 0x10, DATA = 0x20, ACK = 0x30, CLOSE = 0x40 };
enum { LAST = 1, END = 2, NUMBERED = 4, POLL = 1 };
enum { FLAG = 0x7e, ESCAPE = 0x7d, XON = 0x11, XOFF = 0x13 };

#define VERSION 1
#define INITIATOR 1
#define MOST_TIMES 40      /* that one frame is sent */
#define QUIET_MS 20        /* after so long a flag goes first */
#define FIRST_PAUSE_MS 100 /* between two HELLOs; doubled each time */
#define LAST_PAUSE_MS 1000
#define ANSWER_MS 100 /* a HELLO in the session is answered after so long */
#define ACK_MS 20     /* so long an acknowledgement may wait for a frame that carries it */
#define LARGE_WINDOW 4 /* from here on it may */

/* ------------------------------------------------------------------------------------------------------------ numbers */

static const uint32_t nibbles[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
};

uint32_t board_crc32(uint32_t key, const uint8_t *bytes, size_t count)
{
    uint32_t crc = ~key;
    while (count--) {
        crc ^= *bytes++;
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return ~crc;
}

static uint32_t from_big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void to_big_endian(uint8_t *bytes, uint32_t number)
{
    for (int place = 3; place >= 0; place--) {
        bytes[place] = (uint8_t)number;
        number >>= 8;
    }
}

/* Whether the time is `after` a moment by so many milliseconds, or by more. */
static bool is_later(const board_link *self, uint32_t moment, uint32_t after)
{
    return (int32_t)(self->now - moment - after) >= 0;
}

/* The number with these low bits that is nearest to `reference`. */
static uint32_t nearest(uint8_t low, uint32_t reference)
{
    return reference + ((low - reference + 128) & 255) - 128;
}

static uint32_t key_of(uint32_t session, uint32_t seq, uint32_t ack)
{
    uint8_t upper[8];
    to_big_endian(upper, (uint32_t)(seq >> 8));
    to_big_endian(upper + 4, (uint32_t)(ack >> 8));
    return board_crc32(session, upper, sizeof upper);
}

/* ----------------------------------------------------------------------------------------------------------- sessions */

/* Forget the session, and ask for another one. */
static void begin(board_link *self)
{
    self->over = self->over || self->open;
    self->mine = board_nonce();
    self->theirs = 0;
    self->open = false;
    self->hello_due = true;
    self->hello_at = self->now;
    self->pause = FIRST_PAUSE_MS;
    self->inbox_size = 0;
    self->inbox_whole = false;
    self->source = 0;
    self->ack_due = false;
}

void board_link_init(board_link *self, uint32_t now)
{
    memset(self, 0, sizeof *self);
    self->now = now;
    self->wrote_at = now - QUIET_MS;
    begin(self);
    self->over = false;
}

/* Get ready for the session with the peer of that nonce. */
static void prepare(board_link *self, uint32_t theirs)
{
    uint8_t who[9];
    self->theirs = theirs;
    to_big_endian(who + 1, theirs); /* the initiator's is first */
    to_big_endian(who + 5, self->mine);
    who[0] = 'r';
    self->key_out = board_crc32(0, who, sizeof who);
    who[0] = 'i';
    self->key_in = board_crc32(0, who, sizeof who);
    self->expected = self->first = self->next = self->filled = 0;
    self->unacknowledged = 0;
    self->told_full = self->ended = self->ack_polls = false;
    self->room = 127; /* until it says otherwise */
}

/* Acknowledge what came, in so many milliseconds at the latest. */
static void acknowledge(board_link *self, uint32_t delay)
{
    uint32_t at = self->now + delay;

    if (!self->ack_due || (int32_t)(self->ack_at - at) > 0)
        self->ack_at = at;
    self->ack_due = true;
}

static void enter(board_link *self)
{
    self->open = true;
    self->hello_due = false;
    self->heard_at = self->polled_at = self->now;
    acknowledge(self, 0);
}

static void take_hello(board_link *self)
{
    const uint8_t *hello = self->in;
    uint32_t theirs = from_big_endian(hello + 3), seen = from_big_endian(hello + 7);
    uint16_t frame = (uint16_t)(hello[11] << 8 | hello[12]);
    uint8_t window = hello[13], deflate = hello[19];

    if (!hello[1] || hello[2] != INITIATOR || !theirs || frame < 16 || !window || window > 127 || !hello[14] ||
        !from_big_endian(hello + 15) || (deflate && (deflate < 9 || deflate > 15)))
        return;
    if (self->open && theirs == self->theirs && seen == self->mine) {
        acknowledge(self, 0);
        return;
    }
    if (self->open && theirs != self->theirs && (!seen || seen == self->mine))
        begin(self);
    if (self->open) {
        if (!self->hello_due) {
            self->hello_due = true;
            self->hello_at = self->now + ANSWER_MS;
        }
        return;
    }
    if (theirs != self->theirs)
        prepare(self, theirs);
    self->payload = frame < BOARD_FRAME ? (uint16_t)(frame - 3) : BOARD_PAYLOAD;
    self->window = window < BOARD_WINDOW ? window : BOARD_WINDOW;
    if (seen == self->mine)
        enter(self);
    else
        self->hello_at = self->now;
}

/* ---------------------------------------------------------------------------------------------------------- what comes */

static board_slot *slot_of(board_link *self, uint32_t number)
{
    return &self->slots[(size_t)number % BOARD_WINDOW];
}

/* What was in flight is to be sent again now. */
static void send_again(board_link *self, bool only_first)
{
    for (uint32_t number = self->first; number < self->next; number++) {
        slot_of(self, number)->sent_at = self->now - BOARD_RESEND_MS;
        if (only_first)
            return;
    }
}

static void take_ack(board_link *self, uint32_t ack)
{
    if (ack > self->first && ack <= self->next)
        self->first = ack;
}

static void take_room(board_link *self, uint32_t ack)
{
    size_t size = (size_t)(self->in_size - 4);
    bool is_older = ack < self->first;
    bool tells_of_gap = false;

    take_ack(self, ack);
    if (is_older || ack > self->next)
        return;
    for (size_t place = 3; place < size; place++)
        tells_of_gap = tells_of_gap || self->in[place];
    if (tells_of_gap && slot_of(self, self->first)->times == 1)
        send_again(self, true);
    if (!self->room && self->in[2])
        send_again(self, false);
    self->room = self->in[2];
}

/* One fragment, in its turn. False where no peer sends such a one. */
static bool take_fragment(board_link *self, uint8_t flags, const uint8_t *payload, size_t size)
{
    if (size > (size_t)(BOARD_MESSAGE - self->inbox_size))
        return false;
    memcpy(self->inbox + self->inbox_size, payload, size);
    self->inbox_size = (uint16_t)(self->inbox_size + size);
    if (flags & LAST)
        self->inbox_whole = true;
    if (flags & END) {
        self->ended = true;
        if (!(flags & LAST))
            self->inbox_size = 0;
    }
    return true;
}

static void take_data(board_link *self, uint8_t flags, uint32_t seq)
{
    size_t header = flags & NUMBERED ? 4 : 3;
    size_t size = (size_t)(self->in_size - 4);

    if (size < header || (flags & NUMBERED && self->in[3])) {
        begin(self); /* there is one stream, number 0 */
        return;
    }
    if (seq != self->expected || self->inbox_whole) {
        acknowledge(self, 0);
        return;
    }
    if (!take_fragment(self, flags, self->in + header, size - header)) {
        begin(self);
        return;
    }
    self->expected++;
    self->unacknowledged++;
    if (self->window < LARGE_WINDOW || BOARD_WINDOW < LARGE_WINDOW || self->unacknowledged > 1)
        acknowledge(self, 0);
    else
        acknowledge(self, ACK_MS);
}

static void take_frame(board_link *self)
{
    const uint8_t *in = self->in;
    size_t size;
    uint32_t crc;
    uint8_t kind, flags;
    uint32_t seq = 0, ack = 0;

    if (self->in_size < 5)
        return;
    size = (size_t)(self->in_size - 4);
    crc = (uint32_t)in[size] | (uint32_t)in[size + 1] << 8 | (uint32_t)in[size + 2] << 16 | (uint32_t)in[size + 3] << 24;
    kind = in[0] & 0xf0;
    flags = in[0] & 0x0f;
    if (kind == HELLO) {
        if (size >= 20 && board_crc32(0, in, size) == crc)
            take_hello(self);
        return;
    }
    if (!self->theirs || size > BOARD_FRAME || ((kind == DATA || kind == ACK) && size < 3))
        return;
    if (kind == DATA) {
        seq = nearest(in[1], self->expected);
        ack = nearest(in[2], self->first);
    } else if (kind == ACK) {
        ack = nearest(in[1], self->first);
    }
    if (board_crc32(key_of(self->key_in, seq, ack), in, size) != crc)
        return;
    if (!self->open && (kind == DATA || kind == ACK))
        enter(self);
    self->heard_at = self->now;
    switch (kind) {
    case DATA:
        take_ack(self, ack);
        take_data(self, flags, seq);
        break;
    case ACK:
        take_room(self, ack);
        if (flags & POLL)
            acknowledge(self, 0);
        break;
    case CLOSE:
        if (self->open)
            begin(self);
        break;
    default:
        break;
    }
}

size_t board_link_receive(board_link *self, const uint8_t *bytes, size_t count, uint32_t now)
{
    size_t used = 0;
    bool was_whole = self->inbox_whole;

    self->now = now;
    while (used < count && self->inbox_whole == was_whole) {
        uint8_t byte = bytes[used++];
        if (byte == FLAG) {
            if (!self->in_too_long)
                take_frame(self);
            self->in_size = 0;
            self->in_escaped = self->in_too_long = false;
        } else if (byte == ESCAPE) {
            self->in_escaped = true;
        } else if (self->in_size < sizeof self->in) {
            self->in[self->in_size++] = self->in_escaped ? byte ^ 0x20 : byte;
            self->in_escaped = false;
        } else {
            self->in_too_long = true;
        }
    }
    return used;
}

void board_link_done(board_link *self)
{
    self->inbox_whole = false;
    self->inbox_size = 0;
    if (self->told_full)
        acknowledge(self, 0);
}

/* ----------------------------------------------------------------------------------------------------------- what goes */

/* Make the next frame, if there is something to say and place for it. */
static void fill(board_link *self)
{
    while (self->filled - self->first < BOARD_WINDOW && (self->source || (self->ended && !self->inbox_whole))) {
        board_slot *slot = slot_of(self, self->filled);
        slot->flags = 0;
        slot->size = 0;
        slot->times = 0;
        if (self->source) {
            size_t whole = self->source(self->source_of, self->source_at, slot->payload, self->payload);
            size_t left = whole - self->source_at;
            slot->size = left < self->payload ? (uint16_t)left : self->payload;
            self->source_at += slot->size;
            if (self->source_at == whole) {
                slot->flags = LAST;
                self->source = 0;
                board_link_done(self); /* an answer may quote the request */
            }
        }
        if (!self->source && self->ended) {
            slot->flags |= END;
            self->ended = false;
        }
        self->filled++;
    }
}

void board_link_send(board_link *self, board_source source, void *of)
{
    self->source = source;
    self->source_of = of;
    self->source_at = 0;
    fill(self);
}

bool board_link_idle(const board_link *self)
{
    return !self->source;
}

static void put(board_link *self, uint8_t byte)
{
    if (byte == FLAG || byte == ESCAPE || byte == XON || byte == XOFF) {
        self->out[self->out_size++] = ESCAPE;
        byte ^= 0x20;
    }
    self->out[self->out_size++] = byte;
}

/* A frame: its head, and the payload of a slot behind it if there is one. */
static void write_frame(board_link *self, const uint8_t *head, size_t size, const board_slot *slot, uint32_t key)
{
    uint32_t crc = board_crc32(key, head, size);

    if (is_later(self, self->wrote_at, QUIET_MS))
        self->out[self->out_size++] = FLAG;
    while (size--)
        put(self, *head++);
    if (slot) {
        crc = board_crc32(crc, slot->payload, slot->size);
        for (size_t place = 0; place < slot->size; place++)
            put(self, slot->payload[place]);
    }
    for (int place = 0; place < 4; place++) {
        put(self, (uint8_t)crc);
        crc >>= 8;
    }
    self->out[self->out_size++] = FLAG;
}

static void write_hello(board_link *self)
{
    uint8_t hello[20] = {
        HELLO, VERSION, [11] = BOARD_FRAME >> 8, BOARD_FRAME & 255, BOARD_WINDOW, 1 /* stream */,
        0,     0,       BOARD_MESSAGE >> 8,      BOARD_MESSAGE & 255,
    };

    to_big_endian(hello + 3, self->mine);
    to_big_endian(hello + 7, self->theirs);
    write_frame(self, hello, sizeof hello, 0, 0);
    self->hello_due = !self->open;
    self->hello_at = self->now + self->pause;
    self->pause = self->pause < LAST_PAUSE_MS / 2 ? (uint16_t)(2 * self->pause) : LAST_PAUSE_MS;
}

static void acknowledged(board_link *self)
{
    self->ack_due = false;
    self->unacknowledged = 0;
}

static void write_ack(board_link *self)
{
    uint8_t ack[3] = {ACK, (uint8_t)self->expected, 0};

    if (self->ack_polls)
        ack[0] |= POLL;
    if (!self->inbox_whole)
        ack[2] = BOARD_WINDOW;
    self->ack_polls = false;
    self->told_full = self->inbox_whole;
    acknowledged(self);
    write_frame(self, ack, sizeof ack, 0, key_of(self->key_out, 0, self->expected));
}

static void write_data(board_link *self, uint32_t number)
{
    board_slot *slot = slot_of(self, number);
    uint8_t head[3] = {(uint8_t)(DATA | slot->flags), (uint8_t)number, (uint8_t)self->expected};

    slot->times++;
    slot->sent_at = self->now;
    if (!self->told_full || self->inbox_whole)
        acknowledged(self); /* unless the peer has to be told of room */
    write_frame(self, head, sizeof head, slot, key_of(self->key_out, number, self->expected));
}

/* The frame that is to be sent now, or `filled` if there is none. */
static uint32_t due(const board_link *self)
{
    uint32_t most = self->room < self->window ? self->room : self->window;

    for (uint32_t number = self->first; number < self->next; number++) {
        const board_slot *slot = &self->slots[(size_t)number % BOARD_WINDOW];
        if (self->room && is_later(self, slot->sent_at, BOARD_RESEND_MS))
            return number;
    }
    return self->next < self->filled && self->next - self->first < most ? self->next : self->filled;
}

/* Ask whether the peer is there. */
static void poll(board_link *self)
{
    self->polled_at = self->now;
    self->ack_polls = true;
    acknowledge(self, 0);
}

static void write_next(board_link *self)
{
    uint32_t number;

    fill(self);
    number = due(self);
    if (number < self->filled) {
        if (slot_of(self, number)->times >= MOST_TIMES) {
            begin(self);
            return;
        }
        if (number == self->next)
            self->next++;
        write_data(self, number);
        return;
    }
    if (is_later(self, self->heard_at, BOARD_POLL_MS) && is_later(self, self->polled_at, BOARD_POLL_MS))
        poll(self);
    if (!self->room && self->next > self->first && is_later(self, self->polled_at, BOARD_RESEND_MS))
        poll(self);
    if (self->ack_due && is_later(self, self->ack_at, 0))
        write_ack(self);
}

size_t board_link_output(board_link *self, const uint8_t **bytes, uint32_t now)
{
    self->now = now;
    if (self->open && is_later(self, self->heard_at, BOARD_SILENT_MS))
        begin(self);
    if (self->out_at == self->out_size) {
        self->out_at = self->out_size = 0;
        if (self->hello_due && is_later(self, self->hello_at, 0))
            write_hello(self);
        else if (self->open)
            write_next(self);
    }
    *bytes = self->out + self->out_at;
    return (size_t)(self->out_size - self->out_at);
}

void board_link_wrote(board_link *self, size_t count, uint32_t now)
{
    self->out_at = (uint16_t)(self->out_at + count);
    if (count)
        self->wrote_at = now;
}
