#include "chip.h"

#include "board_link.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* PL011 */
#define UART0 0x4000c000u
#define UART1 0x4000d000u
#define UART_DATA(uart) REGISTER((uart) + 0x00)
#define UART_FLAGS(uart) REGISTER((uart) + 0x18)
#define UART_INTEGER(uart) REGISTER((uart) + 0x24)
#define UART_FRACTION(uart) REGISTER((uart) + 0x28)
#define UART_LINE(uart) REGISTER((uart) + 0x2c)
#define UART_CONTROL(uart) REGISTER((uart) + 0x30)
#define UART_LEVELS(uart) REGISTER((uart) + 0x34)
#define UART_MASK(uart) REGISTER((uart) + 0x38)
#define UART_CLEAR(uart) REGISTER((uart) + 0x44)
#define RX_EMPTY 0x10u
#define TX_FULL 0x20u
#define RX_INTERRUPTS 0x50u /* half full, and quiet with something in it */

/* PL061 */
#define PORT_B 0x40005000u
#define PORT_D 0x40007000u
#define PORT_DATA(port, pins) REGISTER((port) + ((uint32_t)(pins) << 2))
#define PORT_DIRECTION(port) REGISTER((port) + 0x400)
#define PORT_DIGITAL(port) REGISTER((port) + 0x51c)

/* Cortex-M3, and clocks */
#define SYSTICK_CONTROL REGISTER(0xe000e010)
#define SYSTICK_RELOAD REGISTER(0xe000e014)
#define SYSTICK_VALUE REGISTER(0xe000e018)
#define NVIC_ENABLE REGISTER(0xe000e100)
#define SCB_RESET REGISTER(0xe000ed0c)
#define RUN_CLOCKS_1 REGISTER(0x400fe104)
#define RUN_CLOCKS_2 REGISTER(0x400fe108)
#define UART0_INTERRUPT 5
#define CLOCK_HZ 12500000u /* after a reset: 200 MHz by 16 */
#define BAUD 115200u

#define RING 256u /* a power of two */
#define DUTIES 4
#define PERIOD 1000u /* milliseconds would be slow for a motor; it is an example */

static struct {
    volatile uint16_t head, tail;
    uint8_t bytes[RING];
} ring;

static volatile uint32_t milliseconds;
static volatile uint32_t to_lose;
static volatile uint16_t duties[DUTIES];
volatile uint32_t chip_overruns;

/* ---------------------------------------------------------------------------------------------------------- interrupts */

static void uart0_interrupt(void)
{
    UART_CLEAR(UART0) = RX_INTERRUPTS;
    while (!(UART_FLAGS(UART0) & RX_EMPTY)) {
        uint8_t byte = (uint8_t)UART_DATA(UART0);
        uint16_t head = (uint16_t)((ring.head + 1) & (RING - 1));
        if (head == ring.tail || to_lose) {
            chip_overruns++;
            if (to_lose)
                to_lose--;
            continue;
        }
        ring.bytes[ring.head] = byte;
        ring.head = head;
    }
}

static void systick_interrupt(void)
{
    uint32_t phase = ++milliseconds % PERIOD, levels = 0;

    for (int channel = 0; channel < DUTIES; channel++)
        levels |= (uint32_t)(phase < duties[channel]) << channel;
    PORT_DATA(PORT_D, 0xf) = levels;
}

/* ------------------------------------------------------------------------------------------------------------- startup */

extern uint32_t _data, _data_end, _data_from, _bss, _bss_end, _stack;

int main(void);

static void start(void)
{
    uint32_t *from = &_data_from;

    for (uint32_t *to = &_data; to < &_data_end;)
        *to++ = *from++;
    for (uint32_t *to = &_bss; to < &_bss_end;)
        *to++ = 0;
    main();
    chip_hang();
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const union {
    uint32_t *stack;
    handler run;
} vectors[16 + UART0_INTERRUPT + 1] = {
    [0] = {.stack = &_stack},         [1] = {.run = start},          [2] = {.run = chip_hang},
    [3] = {.run = chip_hang},         [4] = {.run = chip_hang},      [5] = {.run = chip_hang},
    [6] = {.run = chip_hang},         [11] = {.run = chip_hang},     [14] = {.run = chip_hang},
    [15] = {.run = systick_interrupt}, [16 + UART0_INTERRUPT] = {.run = uart0_interrupt},
};

static void uart_init(uint32_t uart)
{
    uint32_t divisor = (CLOCK_HZ * 4 + BAUD / 2) / BAUD; /* in 64ths of 16 clocks */

    UART_CONTROL(uart) = 0;
    UART_INTEGER(uart) = divisor >> 6;
    UART_FRACTION(uart) = divisor & 63;
    UART_LINE(uart) = 0x70; /* 8N1, FIFOs on */
    UART_LEVELS(uart) = 0;
    UART_CONTROL(uart) = 0x301;
}

void chip_init(void)
{
    RUN_CLOCKS_1 = 3;      /* both UARTs */
    RUN_CLOCKS_2 = 0xb;    /* ports A, B and D */
    uart_init(UART0);
    uart_init(UART1);
    UART_MASK(UART0) = RX_INTERRUPTS;
    NVIC_ENABLE = 1u << UART0_INTERRUPT;
    PORT_DIRECTION(PORT_B) = PORT_DIGITAL(PORT_B) = 0xff;
    PORT_DIRECTION(PORT_D) = PORT_DIGITAL(PORT_D) = 0xf;
    SYSTICK_RELOAD = CLOCK_HZ / 1000 - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7;
}

/* ------------------------------------------------------------------------------------------------------------ the rest */

/* Instead of the library's, as QEMU's RAM is blank at power-up: how often a loop runs in a millisecond differs there. */
uint32_t board_nonce(void)
{
    static uint32_t state[2] __attribute__((section(".noinit")));
    uint32_t begin = milliseconds;

    while (milliseconds - begin < 2)
        state[0]++;
    state[1] = board_crc32(state[1], (const uint8_t *)state, sizeof state);
    return state[1] ? state[1] : 1;
}

uint32_t chip_milliseconds(void)
{
    return milliseconds;
}

size_t chip_read(uint8_t *bytes, size_t most)
{
    size_t count = 0;

    while (count < most && ring.tail != ring.head) {
        bytes[count++] = ring.bytes[ring.tail];
        ring.tail = (uint16_t)((ring.tail + 1) & (RING - 1));
    }
    return count;
}

size_t chip_write(const uint8_t *bytes, size_t count)
{
    size_t written = 0;

    while (written < count && !(UART_FLAGS(UART0) & TX_FULL))
        UART_DATA(UART0) = bytes[written++];
    return written;
}

void chip_lose(uint32_t bytes)
{
    to_lose = bytes;
}

static void tell(char letter)
{
    while (UART_FLAGS(UART1) & TX_FULL)
        ;
    UART_DATA(UART1) = (uint8_t)letter;
}

static void tell_number(uint32_t number)
{
    char digits[10];
    int count = 0;

    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (count)
        tell(digits[--count]);
}

void chip_tell(const char *text, uint32_t number)
{
    tell_number(milliseconds);
    tell(' ');
    while (*text)
        tell(*text++);
    tell(' ');
    tell_number(number);
    tell('\n');
}

void chip_set_pins(uint8_t levels)
{
    PORT_DATA(PORT_B, 0xff) = levels;
}

uint8_t chip_pins(void)
{
    return (uint8_t)PORT_DATA(PORT_B, 0xff);
}

void chip_set_duty(uint8_t channel, uint16_t thousandths)
{
    duties[channel] = thousandths;
}

void chip_idle(void)
{
    __asm volatile("cpsid i" ::: "memory");
    if (ring.tail == ring.head)
        __asm volatile("wfi");
    __asm volatile("cpsie i" ::: "memory");
}

void chip_reset(void)
{
    SCB_RESET = 0x05fa0004;
    chip_hang();
}

void chip_hang(void)
{
    __asm volatile("cpsid i");
    for (;;)
        ;
}

/* ---------------------------------------------------------------------- what compilers want, where there is no library */

void *memcpy(void *to, const void *from, size_t size)
{
    uint8_t *each = to;
    const uint8_t *other = from;

    while (size--)
        *each++ = *other++;
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    uint8_t *each = to;

    while (size--)
        *each++ = (uint8_t)byte;
    return to;
}

int memcmp(const void *one, const void *other, size_t size)
{
    const uint8_t *each = one, *second = other;

    for (; size--; each++, second++)
        if (*each != *second)
            return *each < *second ? -1 : 1;
    return 0;
}
