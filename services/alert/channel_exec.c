/* channel_exec.c - tells people by a program: the message as JSON on its stdin, its exit code says whether it has taken it.
 *
 * No shell; program and arguments are the settings' alone. It runs as common/program.h says, and nothing of its group outlives the attempt. */
#include "alert/alert_body.h"
#include "alert/alert_channel.h"
#include "alert/alert_json.h"
#include "alert/alert_room.h"
#include "common/program.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 256 /* of what it says, the first line */

struct run {
    struct alert_channel *channel; /* held by the job */
    struct alert_job *job;
    struct run *prev, *next; /* of its channel */
    struct program *program;
};

/* The job is over. */
static void end(struct run *x, const struct alert_outcome *o, const char *detail)
{
    struct alert_job *j = x->job;
    if (x->prev)
        x->prev->next = x->next;
    else
        x->channel->priv = x->next;
    if (x->next)
        x->next->prev = x->prev;
    free(x);
    alert_job_end(j, o, detail);
}

/* The first line that is not empty. */
static size_t first_line(const char *text, size_t len, char *buf, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len && !(text[i] == '\n' && n > 0) && n + 1 < size; i++)
        if (text[i] != '\n')
            buf[n++] = text[i];
    buf[n] = '\0';
    return n;
}

static void on_done(void *ctx, const struct program_result *r)
{
    struct run *x = ctx;
    struct alert_outcome o = {ALERT_FAULT_NONE, r->code, -1};
    char detail[LINE_SIZE + 64], line[LINE_SIZE] = "";
    size_t n = 0;
    /* Its own words: what it complains of comes first, if it has failed. */
    if (r->end != PROGRAM_EXITED || r->code == 0)
        n = first_line(r->out, r->out_len, line, sizeof line);
    if (n == 0)
        n = first_line(r->first, strlen(r->first), line, sizeof line);
    if (n == 0)
        n = first_line(r->out, r->out_len, line, sizeof line);
    const char *colon = n > 0 ? ": " : "";
    if (r->end != PROGRAM_EXITED)
        o.status = 0;
    if (r->end == PROGRAM_NOT_STARTED) {
        o.fault = ALERT_FAULT_SETTINGS;
        snprintf(detail, sizeof detail, "%s", r->text);
    } else if (r->end == PROGRAM_TIMEOUT) {
        o.fault = ALERT_FAULT_TIMEOUT;
        snprintf(detail, sizeof detail, "killed at its time limit%s%s", colon, line);
    } else if (r->end != PROGRAM_EXITED) {
        o.fault = ALERT_FAULT_CUT;
        snprintf(detail, sizeof detail, "ended by signal %d%s%s", r->code, colon, line);
    } else {
        snprintf(detail, sizeof detail, "exit %d%s%s", r->code, colon, line);
    }
    end(x, &o, detail);
}

static void refuse(struct alert_job *j, enum alert_fault fault, const char *why)
{
    alert_job_end(j, &(struct alert_outcome){fault, 0, -1}, why);
}

static struct program *start(struct run *x, const struct alert_body *b)
{
    const struct alert_job *j = x->job;
    const struct alert_channel *c = x->channel;
    const char *argv[33] = {0}; /* the settings allow 32 */
    char id[96], kind[48], severity[64], resolved[48], count[48], channel[128];
    for (size_t i = 0; i < c->set.command.n && i < 32; i++)
        argv[i] = *CONF_AT(c->set.command, char *, i);
    snprintf(id, sizeof id, "REDOUBT_ALERT_ID=%s", j->id);
    snprintf(kind, sizeof kind, "REDOUBT_ALERT_KIND=%s", alert_json_kind(j->kind));
    snprintf(severity, sizeof severity, "REDOUBT_ALERT_SEVERITY=%s",
             wire_enum_name(&redoubt__v1__severity__descriptor, j->severity));
    snprintf(resolved, sizeof resolved, "REDOUBT_ALERT_RESOLVED=%s", j->resolved ? "true" : "false");
    snprintf(count, sizeof count, "REDOUBT_ALERT_COUNT=%zu", j->total);
    snprintf(channel, sizeof channel, "REDOUBT_CHANNEL=%s", c->set.name);
    char *body = malloc(b->len + 1);
    if (!body)
        return NULL;
    memcpy(body, b->text, b->len);
    body[b->len] = '\n';
    struct program_opts o = {.argv = argv,
                             .env = (const char *const[]){id, kind, severity, resolved, count, channel, NULL},
                             .input = body,
                             .input_len = b->len + 1,
                             .timeout_ms = j->timeout_ms,
                             .max_output = 4096,
                             .cut = true};
    struct program *p = program_run(&c->room->service->loop, &o, on_done, x);
    free(body);
    return p;
}

static void run(struct alert_job *j, const struct alert_body *b)
{
    struct alert_channel *c = j->channel;
    struct run *x = calloc(1, sizeof *x);
    if (x) {
        *x = (struct run){.channel = c, .job = j};
        x->program = start(x, b);
    }
    if (!x || !x->program) {
        free(x);
        refuse(j, ALERT_FAULT_OTHER, "out of memory");
        return;
    }
    x->next = c->priv;
    if (x->next)
        x->next->prev = x;
    c->priv = x;
}

static void send_exec(struct alert_channel *c, struct alert_job *j)
{
    (void)c;
    alert_body_make(j, run);
}

static void stop_exec(struct alert_channel *c)
{
    while (c->priv) {
        struct run *x = c->priv;
        program_drop(x->program, true);
        end(x, &(struct alert_outcome){ALERT_FAULT_OTHER, 0, -1}, "the service ends");
    }
}

const struct alert_kind alert_kind_exec = {
    .name = "exec", .proto = ALERT_PROTO_EXEC, .at_once = 4, .send = send_exec, .stop = stop_exec};
