/* An example board: pins, four duty cycles, a ramp like an ADC's, a counter that shows that no call runs twice, and
 * faults on demand. The second UART tells of each change of the outputs, with the time. */

#include "board.h"
#include "board_memory.h"
#include "chip.h"

#ifndef FRAMING
#define FRAMING board_over_link
#endif
#ifndef FIRMWARE
#define FIRMWARE 1.0.0
#endif
#define TEXT_OF(word) #word
#define TEXT(word) TEXT_OF(word)

static board the_board;
static board_int counted;

/* ----------------------------------------------------------------------------------------------------------- functions */

/* A fraction from 0 to 1 in thousandths, without the compiler's routines for doubles. */
static uint16_t thousandths(double fraction)
{
    uint64_t bits;
    uint32_t exponent, mantissa;

    memcpy(&bits, &fraction, sizeof bits);
    exponent = (uint32_t)(bits >> 52) & 0x7ff;
    mantissa = (uint32_t)(bits >> 32 & 0xfffff) | 0x100000; /* 21 bits are plenty */
    if (exponent < 1023 - 12)
        return 0;
    return (uint16_t)((mantissa >> 1) * 1000 >> (19 + 1023 - exponent));
}

static const char *set_pins(const board_value *arguments, board_value *result)
{
    (void)result;
    chip_set_pins((uint8_t)arguments->as.i);
    chip_tell("pins", chip_pins());
    return 0;
}

static const char *get_pins(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_INT;
    result->as.i = chip_pins();
    return 0;
}

static const char *set_pwm(const board_value *arguments, board_value *result)
{
    uint16_t duty = thousandths(arguments[1].as.f);

    (void)result;
    chip_set_duty((uint8_t)arguments[0].as.i, duty);
    chip_tell("pwm", duty);
    return 0;
}

static const char *get_ramp(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_FLOAT;
    result->as.f = board_double_of((board_int)(chip_milliseconds() % 3300));
    return 0;
}

static const char *count(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_INT;
    result->as.i = ++counted;
    return 0;
}

static const char *get_counted(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_INT;
    result->as.i = counted;
    return 0;
}

static const char *add(const board_value *arguments, board_value *result)
{
    result->type = BOARD_INT;
    result->as.i = arguments[0].as.i + arguments[1].as.i;
    return 0;
}

static const char *busy(const board_value *arguments, board_value *result)
{
    uint32_t begin = chip_milliseconds();

    (void)result;
    while (chip_milliseconds() - begin < (uint32_t)arguments->as.i)
        chip_idle();
    return 0;
}

static const char *get_overruns(const board_value *arguments, board_value *result)
{
    (void)arguments;
    result->type = BOARD_INT;
    result->as.i = (board_int)chip_overruns;
    return 0;
}

static bool is(const board_value *text, const char *known)
{
    return text->size == board_length(known) && !memcmp(text->as.s, known, text->size);
}

static const char *fault(const board_value *arguments, board_value *result)
{
    (void)result;
    if (is(arguments, "hang"))
        chip_hang();
    else if (is(arguments, "reset"))
        chip_reset();
    else if (is(arguments, "overrun"))
        chip_lose(40);
    else
        return "fault is hang, reset or overrun";
    return 0;
}

/* --------------------------------------------------------------------------------------------------------------- table */

static const board_argument levels[] = {BOARD_ARG_INT("levels", 0, 255)};
static const board_argument channel_and_duty[] = {BOARD_ARG_INT("channel", 0, 3), BOARD_ARG_FLOAT("duty", 0.0, 1.0)};
static const board_argument sum[] = {BOARD_ARG_INT("a", -1000000000, 1000000000), BOARD_ARG_INT("b", -1000000000, 1000000000)};
static const board_argument milliseconds[] = {BOARD_ARG_INT("ms", 0, 10000)};
static const board_argument kind[] = {BOARD_ARG("kind", BOARD_STR)};

static const board_member members[] = {
    BOARD_METHOD("set_pins", set_pins, levels, 1, BOARD_NONE, "", BOARD_CONTROL, "Set the pins of port B."),
    BOARD_PROPERTY("pins", get_pins, BOARD_INT, "", "The levels of port B."),
    BOARD_METHOD("set_pwm", set_pwm, channel_and_duty, 2, BOARD_NONE, "", BOARD_CONTROL, "Set a duty cycle."),
    BOARD_PROPERTY("ramp", get_ramp, BOARD_FLOAT, "mV", "A voltage that rises again and again."),
    BOARD_METHOD("count", count, 0, 0, BOARD_INT, "", BOARD_CONTROL, "One more; how many so far."),
    BOARD_PROPERTY("counted", get_counted, BOARD_INT, "", "How often count ran since the start."),
    BOARD_METHOD("add", add, sum, 2, BOARD_INT, "", BOARD_READ, "The sum of two numbers."),
    BOARD_METHOD("busy", busy, milliseconds, 1, BOARD_NONE, "", BOARD_CONTROL, "Wait."),
    BOARD_PROPERTY("overruns", get_overruns, BOARD_INT, "", "Bytes that came too fast."),
    BOARD_METHOD("fault", fault, kind, 1, BOARD_NONE, "", BOARD_CONTROL, "hang, reset or overrun."),
};

static const board_table table = {
    .name = "board",
    .driver = "ExampleBoard",
    .doc = "Pins and a ramp.",
    .identity = "firmware " TEXT(FIRMWARE) ", lm3s6965evb",
    .safe_state = "all pins low, all duty cycles 0",
    .members = members,
    .count = sizeof members / sizeof *members,
};

/* ---------------------------------------------------------------------------------------------------------------- port */

size_t board_port_read(uint8_t *bytes, size_t most)
{
    return chip_read(bytes, most);
}

size_t board_port_write(const uint8_t *bytes, size_t many)
{
    return chip_write(bytes, many);
}

uint32_t board_port_milliseconds(void)
{
    return chip_milliseconds();
}

void board_port_make_safe(void)
{
    chip_set_pins(0);
    for (uint8_t each = 0; each < 4; each++)
        chip_set_duty(each, 0);
    chip_tell("safe", chip_pins());
}

int main(void)
{
    chip_init();
    board_init(&the_board, &table, &FRAMING);
    for (;;) {
        board_poll(&the_board);
        chip_idle();
    }
}
