/* onebit-runner: the engine process, and with --pack the packer child. Everything is in the library
 * of this room; the shipped program adds nothing to it. */
#include "daemon/runner/hooks.h"

int main(int argc, char **argv)
{
    return runner_main(argc, argv, NULL);
}
