/* Which of the chat templates we know a file's template text is. */
#ifndef ENGINE_TEXT_CHAT_H
#define ENGINE_TEXT_CHAT_H

#include "base/strview.h"
#include "engine/engine.h"

/**
 * chat_detect() - by what tells the templates apart
 * @template_text: a file's tokenizer.chat_template; any bytes
 *
 * Cautious: a text that looks like one of ours but would render a plain conversation differently (a
 * built-in system prompt, a BOS of its own, other marks) is CHAT_NONE.
 */
enum chat_template chat_detect(struct strview template_text);

#endif
