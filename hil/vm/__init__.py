"""A virtual machine with a real Linux USB stack, for tests: Debian's kernel in QEMU, with this machine's files.

    make vm                 builds the kernel and the small initramfs, once, into build/vm
    with Vm(...) as vm:     starts it: `vm.console`, `vm.wait_for(text)`

The guest sees the root file system of this machine, read only, with an overlay in memory: its Python, its packages and
this tree are there as they are here. There is no network but what is forwarded from 127.0.0.1.
"""
