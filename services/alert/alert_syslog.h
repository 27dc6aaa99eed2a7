/* alert_syslog.h - a message as syslog (RFC 5424): one entry for people, and one for each alert if it holds several. Pure. */
#ifndef REDOUBT_ALERT_SYSLOG_H
#define REDOUBT_ALERT_SYSLOG_H

#include "alert/alert_message.h"

#define ALERT_SYSLOG_MAX        2048 /* octets of an entry: what every receiver takes (RFC 5424, 6.1: SHOULD) */
/* Structured data carries an enterprise number: this one is for documentation (RFC 5612), as the project has none of its own. */
#define ALERT_SYSLOG_ENTERPRISE "32473"

struct alert_syslog {
    int facility; /* 0 .. 23 */
    const char *host;
    long pid;
};
/* Framed by octet counting (RFC 6587, 3.4.1): "LENGTH ENTRY" one behind the other. malloc'ed, NULL if memory is out. */
char *alert_syslog_frames(const struct alert_message *m, const struct alert_syslog *s, size_t *ret_len);
/* Syslog's own number: 2 critical .. 6 informational; an end is 5, a notice. */
int alert_syslog_severity(int severity, bool resolved);

#endif
