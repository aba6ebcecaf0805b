/* `commands-rows`: what onebit-train's verb commands does, built also where OpenBLAS is not. */
#include "train/commands/commands.h"

int main(int argc, char **argv)
{
    return commands_main(argc, argv);
}
