/* alert_body.h - the body that a channel sends: the message's JSON, or what the channel's template makes of it.
 *
 * A template runs in a process of the channel's own, without environment, files or more than a share of memory and time: what it does wrong costs
 * this channel an attempt, and nobody else anything. */
#ifndef REDOUBT_ALERT_BODY_H
#define REDOUBT_ALERT_BODY_H

#include "alert/alert_channel.h"
#include "alert/alert_json.h"

struct alert_body {
    const char *text; /* valid inside the callback; zero-terminated after len bytes */
    size_t len;
    bool json;     /* or a text */
    bool template; /* or the message itself */
    /* of the message, which may be gone by then */
    const char *id, *title;
    int severity;
    bool resolved;
};
typedef void (*alert_body_cb)(struct alert_job *j, const struct alert_body *b);
/* Calls `send` once with the body of the job's message, at once or later; or ends the job instead: ALERT_FAULT_SETTINGS if the template fails, then
 * `send` is not called. All that is needed of the message is copied before this returns. */
void alert_body_make(struct alert_job *j, alert_body_cb send);

/* alert_body_process.c: the process that runs templates; main() calls it when its first argument is ALERT_BODY_ARG. Returns the exit code.
 *
 * Its stdin: the program, then messages, each behind its length (4 bytes, this machine's order). Its stdout: for each message a byte, the length and
 * the bytes: a body, or one line with what was wrong. */
#define ALERT_BODY_ARG "--template"
enum alert_body_answer { ALERT_BODY_JSON = 'j', ALERT_BODY_TEXT = 't', ALERT_BODY_WRONG = 'w' };
int alert_body_process(void);

/* Whatever runs for the channel ends; alert_queue.c calls it when the channel goes. */
void alert_body_close(struct alert_channel *c);

#endif
