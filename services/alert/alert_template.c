/* alert_template.c - jq programs by libjq: compiled with what is wrong in one line, run to one value. */
#include "alert/alert_template.h"
#include "alert/alert_text.h"
#include "common/conf_impl.h"
#include <ctype.h>
#include <jq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct alert_template {
    jq_state *jq;
    char *wrong; /* what the compiler has said first */
};

/* libjq takes every message for its own; the first one names the place, those behind it count. */
static void on_message(void *ctx, jv message)
{
    struct alert_template *t = ctx;
    if (!t->wrong && jv_get_kind(message) == JV_KIND_STRING)
        t->wrong = strdup(jv_string_value(message));
    jv_free(message);
}

/* "jq: error: syntax error, unexpected '}' (Unix shell quoting issues?) at <top-level>, line 1:\n{}}" in our words. */
static int say_wrong(const char *said, struct err *e)
{
    static const char *const noise[] = {"jq: error: ", " (Unix shell quoting issues?)", " at <top-level>", "jq: "};
    char text[ERR_TEXT_MAX], line[ERR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", said ? said : "it cannot be compiled");
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++) {
        char *at = strstr(text, noise[i]);
        if (at)
            memmove(at, at + strlen(noise[i]), strlen(at + strlen(noise[i])) + 1);
    }
    text[strcspn(text, "\n")] = 0;
    alert_text_clean(text, line, sizeof line);
    size_t n = strlen(line);
    if (n > 0 && line[n - 1] == ':')
        line[n - 1] = 0;
    return err_set(e, "%s", line);
}

/* Modules would be read from files: they stand before everything else in a program, if at all. */
static bool wants_modules(const char *p)
{
    static const char *const words[] = {"import", "include", "module"};
    for (;;) {
        p += strspn(p, " \t\r\n");
        if (*p != '#')
            break;
        p += strcspn(p, "\n");
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if (strncmp(p, words[i], n) == 0 && !isalnum((unsigned char)p[n]) && p[n] != '_' && p[n] != ':')
            return true;
    }
    return false;
}

struct alert_template *alert_template_new(const char *program, struct err *e)
{
    struct alert_template *t = NULL;
    if (wants_modules(program)) {
        err_set(e, "modules are not there: put the whole program here");
        return NULL;
    }
    if (!(t = calloc(1, sizeof *t)) || !(t->jq = jq_init())) {
        free(t);
        err_set(e, "out of memory");
        return NULL;
    }
    jq_set_error_cb(t->jq, on_message, t);
    if (!jq_compile(t->jq, program)) {
        (void)say_wrong(t->wrong, e);
        alert_template_free(t);
        return NULL;
    }
    return t;
}

void alert_template_free(struct alert_template *t)
{
    if (!t)
        return;
    jq_teardown(&t->jq);
    free(t->wrong);
    free(t);
}

/* Takes the value. */
static char *body_of(jv value, size_t *ret_len, bool *ret_json, struct err *e)
{
    bool json = jv_get_kind(value) != JV_KIND_STRING;
    jv text = json ? jv_dump_string(value, 0) : value;
    size_t len = (size_t)jv_string_length_bytes(jv_copy(text));
    char *body = NULL;
    if (len > ALERT_TEMPLATE_OUT_MAX)
        err_set(e, "it gives %zu bytes, and at most %d are sent", len, ALERT_TEMPLATE_OUT_MAX);
    else if (!(body = malloc(len + 1)))
        err_set(e, "out of memory");
    if (body) {
        memcpy(body, jv_string_value(text), len);
        body[len] = 0;
        *ret_len = len;
        *ret_json = json;
    }
    jv_free(text);
    return body;
}

/* What an invalid value says: an error with its message, or only that there is no more. Takes it. */
static bool is_error(jv value, struct err *e)
{
    if (!jv_invalid_has_msg(jv_copy(value))) {
        jv_free(value);
        return false;
    }
    jv message = jv_invalid_get_msg(value);
    jv text = jv_get_kind(message) == JV_KIND_STRING ? message : jv_dump_string(message, 0);
    char line[300];
    err_set(e, "it fails: %s", alert_text_clean(jv_string_value(text), line, sizeof line));
    jv_free(text);
    return true;
}

char *alert_template_run(struct alert_template *t, const char *json, size_t len, size_t *ret_len, bool *ret_json,
                         struct err *e)
{
    jv input = jv_parse_sized(json, (int)len);
    if (!jv_is_valid(input)) {
        jv_free(input);
        err_set(e, "the message is no JSON");
        return NULL;
    }
    jq_start(t->jq, input, 0);
    jv first = jq_next(t->jq);
    if (!jv_is_valid(first)) {
        if (!is_error(first, e))
            err_set(e, jq_halted(t->jq) ? "it halts" : "it gives no value");
        return NULL;
    }
    jv second = jq_next(t->jq);
    bool more = jv_is_valid(second), failed = false;
    if (more) {
        err_set(e, "it gives more than one value: put them into one text or list");
        jv_free(second);
    } else {
        failed = is_error(second, e);
    }
    if (!more && !failed && jv_get_kind(first) == JV_KIND_NULL) {
        err_set(e, "it gives null");
        failed = true;
    }
    if (more || failed) {
        jv_free(first);
        return NULL;
    }
    return body_of(first, ret_len, ret_json, e);
}

bool alert_template_check(const struct settings *s, struct conf_report *r)
{
    bool good = true;
    for (size_t i = 0; i < s->alert.channels.n; i++) {
        const struct set_channel *c = CONF_AT(s->alert.channels, struct set_channel, i);
        struct err e = {""};
        if (!*c->template)
            continue;
        struct alert_template *t = alert_template_new(c->template, &e);
        alert_template_free(t);
        if (t)
            continue;
        char *line = NULL;
        good = false;
        if (asprintf(&line, "alert.channels[%zu].template: no jq program that can be run (channel %s): %s", i,
                     c->name, e.text) >= 0)
            conf_report_add(r, line);
    }
    return good;
}
