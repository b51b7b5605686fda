"""A Raspberry Pi Pico: its LED, a duty cycle, a voltage and its own temperature."""

from instrument_board import Board, stdio

board = Board(driver="PicoExample", identity="firmware 1.0.0, Pico", safe_state="LED off, duty cycle 0")
led = board.output("led", 25)
board.pwm("duty", 15)
board.adc("voltage", 26)
chip = board.adc("sensor", 4)


@board.expose(result=float, unit="degC", access="read", doc="The temperature of the chip.")
def temperature():
    return 27 - (chip.read() - 0.706) / 0.001721


@board.expose(("times", int, 1, 100), doc="Switch the LED so often.")
def toggle(times):
    for _ in range(times):
        led.pin.value(1 - led.pin.value())


board.serve(stdio())
