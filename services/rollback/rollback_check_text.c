/* rollback_check_text.c - what the kinds of checks share: names filled in and escaped, answers in words, calls that came to nothing. */
#include "common/conf.h"
#include "common/hostport.h"
#include "common/utf8.h"
#include "rollback/rollback_check_kind.h"
#include "rollback/rollback_fill.h"
#include <ctype.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES 4

void check_say(struct check_answer *a, enum check_said said, const char *fmt, ...)
{
    va_list ap;
    a->said = said;
    va_start(ap, fmt);
    vsnprintf(a->text, sizeof a->text, fmt, ap);
    va_end(ap);
    a->text[utf8_valid_until(a->text, strlen(a->text))] = '\0';
    for (char *p = a->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

/* ---- escapes ---- */

char *check_encode(const char *text)
{
    char *to = malloc(strlen(text) * 3 + 1), *p = to;
    if (!to)
        return NULL;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (isalnum(*c) || strchr("-._~", *c))
            *p++ = (char)*c;
        else
            p += sprintf(p, "%%%02X", *c);
    }
    *p = '\0';
    return to;
}

/* As the inside of a JSON text; a PromQL text knows the same escapes, and is closed by either quote. */
static char *quoted(const char *text, bool both)
{
    json_t *j = json_stringn(text, utf8_valid_until(text, strlen(text)));
    char *whole = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    json_decref(j);
    if (!whole)
        return NULL;
    size_t len = strlen(whole);
    char *inside = calloc(2, len), *p = inside;
    for (size_t i = 1; inside && i + 1 < len; i++) {
        if (both && whole[i] == '\'')
            *p++ = '\\';
        *p++ = whole[i];
    }
    free(whole);
    return inside;
}

static char *escaped(const char *text, enum check_escape how)
{
    switch (how) {
    case CHECK_URL:
        return check_encode(text);
    case CHECK_JSON_TEXT:
        return quoted(text, false);
    case CHECK_PROMQL:
        return quoted(text, true);
    default:
        return strdup(text);
    }
}

/* It becomes the host of an URL, and whoever runs the versions says it. */
static int address_ok(const char *address, struct err *e)
{
    char host[HOSTPORT_HOST_MAX];
    int port;
    if (address[strspn(address, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")] ||
        hostport_split(address, 0, host, &port))
        return err_set(e, "the instance's address `%.60s` is not host:port", address);
    return 0;
}

char *check_fill(const char *text, const struct check_ask *q, enum check_escape how, struct err *e)
{
    const char *side = q->side->side ? "1" : "0";
    const char *raw[NAMES] = {q->address, q->side->name, q->side->digest, side};
    char *value[NAMES] = {NULL}, *filled = NULL;
    bool memory = true;
    if (*q->address && address_ok(q->address, e))
        return NULL;
    for (int i = 0; i < NAMES; i++)
        memory =
            memory && (value[i] = i == 0 ? strdup(raw[0]) : escaped(raw[i], how)); /* the address was looked at */
    const struct fill_name names[NAMES] = {
        {"address", *q->address ? value[0] : NULL}, {"version", value[1]}, {"digest", value[2]}, {"side", value[3]}};
    if (memory)
        filled = fill_text(text, names, NAMES, e);
    else
        err_set(e, "out of memory");
    for (int i = 0; i < NAMES; i++)
        free(value[i]);
    return filled;
}

bool check_names(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = text; (p = strstr(p, "{{"));) {
        p += 2;
        p += strspn(p, " ");
        if (strncmp(p, name, len) == 0 && strncmp(p + len + strspn(p + len, " "), "}}", 2) == 0)
            return true;
    }
    return false;
}

static char *filled_with_anything(const char *text, struct err *e)
{
    const struct check_side side = {.there = true, .version = "0", .name = "0", .digest = "0"};
    return check_fill(text, &(struct check_ask){&side, "127.0.0.1:1"}, CHECK_RAW, e);
}

int check_text_ok(const char *key, const char *text, struct err *e)
{
    struct err why = {""};
    char *filled = filled_with_anything(text, &why);
    int bad = filled ? 0 : err_set(e, "%s: %.300s", key, why.text);
    free(filled);
    return bad;
}

int check_url_ok(const char *url, struct err *e)
{
    static const char *const schemes[] = {"http", "https", NULL};
    struct err why = {""};
    char *filled = filled_with_anything(url, &why);
    int bad = 0;
    if (!filled)
        bad = err_set(e, "url: %.300s", why.text);
    else if (!conf_url_ok(filled, strlen(filled), schemes))
        bad = err_set(e, "url: allowed is http:// or https:// with a host, such as http://{{address}}/health");
    free(filled);
    return bad;
}

/* ---- calls ---- */

const char **check_headers(const struct set_rb_check *set, const char *more)
{
    const char **h = calloc(set->headers.n + 2, sizeof *h);
    for (size_t i = 0; h && i < set->headers.n; i++)
        h[i] = *CONF_AT(set->headers, char *, i);
    if (h)
        h[set->headers.n] = more;
    return h;
}

bool check_no_answer(const struct http_result *r, struct check_answer *a)
{
    if (r->fault == HTTP_OK)
        return false;
    check_say(a, CHECK_NOTHING, "%s%s%.120s", http_fault_text(r->fault), *r->error ? ": " : "", r->error);
    return true;
}

bool check_status(const struct http_result *r, struct check_answer *a)
{
    if (r->status >= 200 && r->status <= 299)
        return true;
    check_say(a, CHECK_FAILED, "HTTP status %d", r->status);
    return false;
}
