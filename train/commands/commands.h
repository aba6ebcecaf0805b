/* onebit-train commands: sentences and their answers as JSONL. */
#ifndef TRAIN_COMMANDS_COMMANDS_H
#define TRAIN_COMMANDS_COMMANDS_H

/** commands_main() - the verb, with its name as argv[0]. Return: an exit code
 * (train/train.h), with the reason printed. */
int commands_main(int argc, char **argv);

#endif
