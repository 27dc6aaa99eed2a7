/* bus_msg.c - messages: their headers in and out, and the rules of subjects. */
#include "common/bus_priv.h"
#include "common/clock.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- in ---- */

/* The reply subject of a message from JetStream:
 *   $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>
 *   $JS.ACK.<domain>.<account hash>.<stream>. ... .<pending>[.<random>] */
#define ACK_PREFIX    "$JS.ACK."
#define ACK_TOKENS    7 /* after the prefix */
#define ACK_TOKENS_V2 9

static void view_ack(struct bus_view *v, const char *reply)
{
    const char *token[ACK_TOKENS_V2 + 2];
    size_t n = 0;
    for (const char *p = reply + sizeof ACK_PREFIX - 1; p && n < sizeof token / sizeof token[0]; n++) {
        token[n] = p;
        p = strchr(p, '.');
        p = p ? p + 1 : NULL;
    }
    size_t at = n == ACK_TOKENS ? 0 : 2;
    if (n != ACK_TOKENS && n < ACK_TOKENS_V2)
        return;
    size_t len = strcspn(token[at], ".");
    if (len >= sizeof v->stream)
        return;
    memcpy(v->stream, token[at], len);
    v->stream[len] = 0;
    v->m.stream = v->stream;
    v->m.deliveries = strtoull(token[at + 2], NULL, 10);
    v->m.stream_seq = strtoull(token[at + 3], NULL, 10);
    v->m.pending = strtoull(token[at + 6], NULL, 10);
}

void bus_view(struct bus_view *v, natsMsg *m)
{
    v->m = (struct bus_msg){.subject = natsMsg_GetSubject(m),
                            .reply = natsMsg_GetReply(m),
                            .data = natsMsg_GetData(m),
                            .len = (size_t)natsMsg_GetDataLength(m),
                            .raw = m};
    v->delivered = v->m.reply && strncmp(v->m.reply, ACK_PREFIX, sizeof ACK_PREFIX - 1) == 0;
    v->copied = false;
    if (v->delivered)
        view_ack(v, v->m.reply);
    const char **keys, *msg_id = NULL;
    int n;
    if (natsMsgHeader_Keys(m, &keys, &n) != NATS_OK) /* the one call that a message without headers pays */
        return;
    for (int i = 0; i < n; i++) {
        v->copied |= strcmp(keys[i], "Nats-Stream") == 0;
        const char **to = strcmp(keys[i], "ce-id") == 0         ? &v->m.id
                          : strcmp(keys[i], "ce-type") == 0     ? &v->m.type
                          : strcmp(keys[i], "ce-source") == 0   ? &v->m.source
                          : strcmp(keys[i], "traceparent") == 0 ? &v->m.traceparent
                          : strcmp(keys[i], "Nats-Msg-Id") == 0 ? &msg_id
                                                                : NULL;
        if (to && natsMsgHeader_Get(m, keys[i], to) != NATS_OK)
            *to = NULL;
    }
    free((void *)keys);
    if (!v->m.id)
        v->m.id = msg_id;
}

/* ---- out ---- */

static void set_header(natsMsg *m, natsStatus *s, const char *key, const char *value)
{
    if (*s == NATS_OK && value)
        *s = natsMsgHeader_Set(m, key, value);
}

natsMsg *bus_message(const struct bus *b, const struct bus_out *o, const char *reply, int64_t time_ms)
{
    natsMsg *m = NULL;
    char text[CLOCK_TEXT_MAX], source[128];
    natsStatus s = natsMsg_Create(&m, o->subject, reply, o->data, (int)o->len);
    set_header(m, &s, "Nats-Msg-Id", o->id);
    if (o->type) {
        snprintf(source, sizeof source, "redoubt/%s", b->o.name);
        set_header(m, &s, "ce-specversion", "1.0");
        set_header(m, &s, "ce-id", o->id);
        set_header(m, &s, "ce-source", source);
        set_header(m, &s, "ce-type", o->type);
        set_header(m, &s, "ce-time", clock_text(time_ms, text));
        set_header(m, &s, "datacontenttype", "application/protobuf");
    }
    set_header(m, &s, "traceparent", o->traceparent);
    if (s == NATS_OK)
        return m;
    natsMsg_Destroy(m);
    return NULL;
}

static bool header_ok(const char *value)
{
    for (const char *p = value; p && *p; p++)
        if (iscntrl((unsigned char)*p))
            return false;
    return true;
}

int bus_out_check(const struct bus *b, const struct bus_out *o, struct err *e)
{
    int64_t max = b->max_payload > 0 && b->max_payload < MESSAGE_MAX ? b->max_payload : MESSAGE_MAX;
    if (!bus_subject_ok(o->subject, false))
        return err_set(e, "wrong subject '%.100s': tokens joined by dots, up to %d bytes, no wildcards",
                       o->subject ? o->subject : "", SUBJECT_MAX_LEN - 1);
    if (o->len > (size_t)max)
        return err_set(e, "message to %s has %zu bytes; at most %" PRId64 " are allowed", o->subject, o->len, max);
    if (!header_ok(o->id) || !header_ok(o->type) || !header_ok(o->traceparent))
        return err_set(e, "message to %s has a control character in its id, type or traceparent", o->subject);
    return 0;
}

/* ---- subjects ---- */

bool bus_subject_ok(const char *s, bool wildcards)
{
    size_t token = 0, n = 0;
    if (!s)
        return false;
    for (; s[n]; n++) {
        if (n >= SUBJECT_MAX_LEN - 1 || isspace((unsigned char)s[n]) || iscntrl((unsigned char)s[n]))
            return false;
        if (s[n] == '.') {
            if (token == 0)
                return false;
            token = 0;
            continue;
        }
        token++;
        if (s[n] == '*' || s[n] == '>') {
            bool alone = token == 1 && (s[n + 1] == 0 || (s[n + 1] == '.' && s[n] == '*'));
            if (!wildcards || !alone)
                return false;
        }
    }
    return token > 0;
}

/* Token by token; either side may hold wildcards. `strict`: those of b are literal. */
static bool tokens_meet(const char *a, const char *b, bool strict)
{
    for (;;) {
        size_t la = strcspn(a, "."), lb = strcspn(b, ".");
        if (a[0] == '>' && la == 1)
            return true;
        if (!strict && b[0] == '>' && lb == 1)
            return true;
        bool any = (la == 1 && a[0] == '*') || (!strict && lb == 1 && b[0] == '*');
        if (!any && (la != lb || strncmp(a, b, la) != 0))
            return false;
        if (a[la] == 0 || b[lb] == 0)
            return a[la] == b[lb];
        a += la + 1;
        b += lb + 1;
    }
}

bool bus_subject_match(const char *filter, const char *subject)
{
    return tokens_meet(filter, subject, true);
}

bool bus_subject_overlap(const char *a, const char *b)
{
    return tokens_meet(a, b, false);
}
