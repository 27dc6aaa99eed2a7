/* channel_webhook.c - tells programs: the message's JSON, or a template's body, signed as Standard Webhooks has it. */
#include "alert/alert_body.h"
#include "alert/alert_web.h"
#include "common/clock.h"
#include "common/webhook_sign.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX (16 + 8) /* the settings' own, and ours */

struct hook {
    bool signs;
    struct webhook_key key;
};

static bool is_header(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncasecmp(line, name, n) == 0 && line[n] == ':';
}

static bool has(const struct set_channel *s, const char *name)
{
    for (size_t i = 0; i < s->headers.n; i++)
        if (is_header(*CONF_AT(s->headers, char *, i), name))
            return true;
    return false;
}

static void post(struct alert_job *j, const struct alert_body *b)
{
    const struct set_channel *s = &j->channel->set;
    const struct hook *k = j->channel->priv;
    struct webhook_headers signed_;
    char key[96], token[1024 + 32];
    const char *headers[HEADERS_MAX] = {0};
    size_t n = 0;
    webhook_headers(k->signs ? &k->key : NULL, b->id, clock_wall_ms() / 1000, b->text, b->len, &signed_);
    headers[n++] = signed_.id;
    headers[n++] = signed_.timestamp;
    if (k->signs)
        headers[n++] = signed_.signature;
    snprintf(key, sizeof key, "Idempotency-Key: %s", b->id);
    if (!has(s, "Idempotency-Key"))
        headers[n++] = key;
    if (!has(s, "Content-Type"))
        headers[n++] = b->json ? "Content-Type: application/json" : "Content-Type: text/plain; charset=utf-8";
    snprintf(token, sizeof token, "Authorization: Bearer %s", s->token);
    if (*s->token && !has(s, "Authorization"))
        headers[n++] = token;
    for (size_t i = 0; i < s->headers.n && n + 1 < HEADERS_MAX; i++)
        headers[n++] = *CONF_AT(s->headers, char *, i);
    alert_web_post(j, &(struct alert_web){.url = s->url, .headers = headers, .body = b->text, .len = b->len});
    sodium_memzero(token, sizeof token);
}

static void send_webhook(struct alert_channel *c, struct alert_job *j)
{
    (void)c;
    alert_body_make(j, post);
}

static int open_webhook(struct alert_channel *c)
{
    struct hook *k = calloc(1, sizeof *k);
    if (!k)
        return -1;
    /* The settings were checked: what cannot be read was never given. */
    k->signs = *c->set.secret && webhook_key_read(c->set.secret, &k->key, NULL) == 0;
    c->priv = k;
    return 0;
}

static void close_webhook(struct alert_channel *c)
{
    sodium_memzero(c->priv, sizeof(struct hook));
    free(c->priv);
}

const struct alert_kind alert_kind_webhook = {.name = "webhook",
                                              .proto = ALERT_PROTO_HTTP,
                                              .at_once = 32,
                                              .send = send_webhook,
                                              .open = open_webhook,
                                              .close = close_webhook};
