/* settings_brief.h - where the bus is, without reading the whole of a settings file. */
#ifndef REDOUBT_CLI_SETTINGS_BRIEF_H
#define REDOUBT_CLI_SETTINGS_BRIEF_H

#include "common/settings.h"

/* Settings with `nats` alone, all else zero and empty; free with settings_free(). NULL = the file is not plain enough for that, cannot be
 * read, or `nats` is wrong: then settings_load() has the last word, and says why. */
struct settings *settings_brief(const char *path);

#endif
