/* Every size and time of the library. Change them here, or with -D on the compiler's command line. */

#ifndef BOARD_CONFIG_H
#define BOARD_CONFIG_H

/* Bytes of one frame's content, three of which are its header: 16 to 1024. HELLO takes 20 of them to 32. */
#ifndef BOARD_FRAME
#define BOARD_FRAME 64
#endif

/* Frames that are under way in each direction without being acknowledged: 1 to 4. */
#ifndef BOARD_WINDOW
#define BOARD_WINDOW 4
#endif

/* Bytes of the longest request. Answers have no bound: they are made while they are sent. */
#ifndef BOARD_MESSAGE
#define BOARD_MESSAGE 256
#endif

/* Bits of an int: 32 or 64. One that is longer is refused. */
#ifndef BOARD_INT_BITS
#define BOARD_INT_BITS 32
#endif

/* Arguments of one function. */
#ifndef BOARD_ARGUMENTS
#define BOARD_ARGUMENTS 4
#endif

/* 1: the board tells a gateway what it has, with units and documentation. 0 saves half a kilobyte; it is no instrument
 * host then, only a peer that is called. */
#ifndef BOARD_DESCRIBE
#define BOARD_DESCRIBE 1
#endif

/* Milliseconds without an intact frame after which the outputs are made safe. 0: never, which only raw frames need. */
#ifndef BOARD_DEAD_MAN_MS
#define BOARD_DEAD_MAN_MS 2000
#endif

/* After so long without an intact frame the host is asked whether it is there. It must be able to answer in time. */
#ifndef BOARD_POLL_MS
#define BOARD_POLL_MS (BOARD_DEAD_MAN_MS && BOARD_DEAD_MAN_MS < 4000 ? BOARD_DEAD_MAN_MS / 4 : 1000)
#endif

/* After so long the session is over. */
#ifndef BOARD_SILENT_MS
#define BOARD_SILENT_MS 4000
#endif

/* A frame that was not acknowledged is sent again after so long. */
#ifndef BOARD_RESEND_MS
#define BOARD_RESEND_MS 100
#endif

#if BOARD_FRAME < 16 || BOARD_FRAME > 1024
#error "BOARD_FRAME must be 16 to 1024"
#endif
#if BOARD_WINDOW < 1 || BOARD_WINDOW > 4
#error "BOARD_WINDOW must be 1 to 4"
#endif
#if BOARD_MESSAGE < 128 || BOARD_MESSAGE > 32768
#error "BOARD_MESSAGE must be 128 to 32768: a gateway's HELLO takes more than 100 bytes"
#endif
#if BOARD_INT_BITS != 32 && BOARD_INT_BITS != 64
#error "BOARD_INT_BITS must be 32 or 64"
#endif
#if BOARD_ARGUMENTS < 1 || BOARD_ARGUMENTS > 16
#error "BOARD_ARGUMENTS must be 1 to 16"
#endif

#endif
