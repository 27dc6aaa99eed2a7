/* alert_mail.h - an alert as a mail (RFC 5322, MIME). Pure; nothing that comes from an alert can become a header line. */
#ifndef REDOUBT_ALERT_MAIL_H
#define REDOUBT_ALERT_MAIL_H

#include "alert/alert_message.h"
#include <stddef.h>
#include <stdint.h>

struct alert_mail {
    const char *channel;
    const char *from;
    const char *const *to; /* NULL-terminated */
    int64_t now_unix_ms;
};
/* The whole message, lines end with LF; malloc'ed, NULL if memory is out. Message-ID is made of the message and the channel: a second
 * attempt is the same mail. */
char *alert_mail_compose(const struct alert_message *message, const struct alert_mail *m, size_t *ret_len);

#endif
