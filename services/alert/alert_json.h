/* alert_json.h - a message as JSON, in one form for every channel that takes JSON; README.md has its fields. Pure. */
#ifndef REDOUBT_ALERT_JSON_H
#define REDOUBT_ALERT_JSON_H

#include "alert/alert_message.h"

#define ALERT_JSON_MAX (512 * 1024) /* about: beyond it alerts are left out, but never the first */
/* In one line, malloc'ed and zero-terminated; NULL if memory is out. ret_len may be NULL. */
char *alert_json(const struct alert_message *m, size_t *ret_len);
/* "one", "group", "digest". */
const char *alert_json_kind(enum alert_message_kind kind);

#endif
