/* store_sentinel.c - which server is the primary: the list of Sentinels, whom to believe, and what answers mean. */
#include "common/store_sentinel.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SENTINEL_PORT 26379

bool store_place_same(const struct store_place *a, const struct store_place *b)
{
    return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

int store_sentinels_parse(struct store_sentinels *q, const char *list, struct err *e)
{
    *q = (struct store_sentinels){.n = 0};
    for (const char *p = list;; p++) {
        char one[HOSTPORT_HOST_MAX + 16];
        size_t len = strcspn(p, ",");
        if (q->n == STORE_SENTINELS_MAX)
            return err_set(e, "more than %d Sentinels", STORE_SENTINELS_MAX);
        if (len >= sizeof one)
            return err_set(e, "wrong Sentinel %.60s...: the name is too long", p);
        memcpy(one, p, len);
        one[len] = 0;
        struct store_place *to = &q->each[q->n];
        if (strcspn(one, " \t\r\n") != len || hostport_split(one, SENTINEL_PORT, to->host, &to->port))
            return err_set(e, "wrong Sentinel `%.100s`; allowed: host:port, several joined by commas without spaces",
                           one);
        q->n++;
        p += len;
        if (!*p)
            break;
    }
    store_sentinels_begin(q);
    return 0;
}

void store_sentinels_begin(struct store_sentinels *q)
{
    q->left = q->n;
    q->doubt.port = 0;
}

bool store_sentinels_next(struct store_sentinels *q)
{
    if (q->left > 0)
        q->left--;
    q->at = (q->at + 1) % q->n;
    return q->left > 0;
}

enum store_sentinels_verdict store_sentinels_heard(struct store_sentinels *q, const struct store_place *said)
{
    if (said && store_place_same(said, &q->present)) {
        q->left = 0;
        q->doubt.port = 0;
        return STORE_SENTINELS_STAY;
    }
    if (said && q->doubt.port && store_place_same(said, &q->doubt))
        return STORE_SENTINELS_MOVE;
    if (said)
        q->doubt = *said;
    if (store_sentinels_next(q))
        return STORE_SENTINELS_ASK;
    return q->doubt.port ? STORE_SENTINELS_MOVE : STORE_SENTINELS_STAY;
}

static bool is_text(const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS;
}

enum store_sentinel_says store_sentinel_read(const redisReply *r, struct store_place *ret, struct err *e)
{
    if (r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOAUTH", 6) == 0) {
        err_set(e, "it wants a login: %.200s", r->str);
        return STORE_SENTINEL_LOGIN;
    }
    if (r->type == REDIS_REPLY_ERROR) {
        err_set(e, "it refused: %.200s", r->str);
        return STORE_SENTINEL_NO;
    }
    if (r->type == REDIS_REPLY_NIL) {
        err_set(e, "it does not watch a primary of this name");
        return STORE_SENTINEL_NO;
    }
    bool shaped =
        r->type == REDIS_REPLY_ARRAY && r->elements == 2 && is_text(r->element[0]) && is_text(r->element[1]);
    const char *host = shaped ? r->element[0]->str : "", *port = shaped ? r->element[1]->str : "";
    size_t digits = strspn(port, "0123456789");
    int number = digits >= 1 && digits <= 5 && !port[digits] ? atoi(port) : 0;
    if (!*host || r->element[0]->len >= sizeof ret->host || strlen(host) != r->element[0]->len ||
        strpbrk(host, " \t\r\n") || number < 1 || number > 65535) {
        err_set(e, "its answer is not a host and a port: is it a Sentinel?");
        return STORE_SENTINEL_NO;
    }
    memcpy(ret->host, host, r->element[0]->len + 1);
    ret->port = number;
    return STORE_SENTINEL_NAMES;
}

int store_role_read(const redisReply *r, struct err *e)
{
    if (r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOPERM", 6) == 0)
        return err_set(e, "this user may not ask for its ROLE: allow it in the ACL (+role)");
    if (r->type == REDIS_REPLY_ERROR)
        return err_set(e, "ROLE refused: %.200s", r->str);
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 1 || !is_text(r->element[0]))
        return err_set(e, "its answer to ROLE is none");
    if (strcmp(r->element[0]->str, "master") != 0)
        return err_set(e, "it is not the primary: its role is %.40s", r->element[0]->str);
    return 0;
}

bool store_no_writes(const char *error)
{
    static const char *const codes[] = {"READONLY ", "NOREPLICAS "};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        size_t len = strlen(codes[i]);
        if (strncmp(error, codes[i], len) == 0)
            return true;
        /* Redis 6 wraps what a script's command met: "ERR Error running script (...): @user_script:1: -READONLY You can't..." */
        const char *inner = strncmp(error, "ERR Error running script", 24) == 0 ? strstr(error, codes[i]) : NULL;
        if (inner && inner[-1] == '-')
            return true;
    }
    return false;
}
