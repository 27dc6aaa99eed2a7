/* executor_exec_view.c - what the exec executor's `view` program prints: validated whole, then taken. */
#include "rollback/executor_exec_view.h"
#include "common/hostport.h"
#include "common/utf8.h"
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- members of an object as rows ---- */

enum kind { TEXT, NUMBER, TRUTH, OBJECT, TEXTS };
struct row {
    const char *key;
    enum kind kind;
    bool needed;
    size_t max; /* TEXT: bytes; NUMBER: the value; TEXTS: how many */
};
static const struct row version_rows[] = {
    {"name", TEXT, true, ROLLBACK_NAME - 1}, {"digest", TEXT, true, 128}, {"image", TEXT, false, 511},
    {"schema", NUMBER, false, INT64_MAX},    {"spec", OBJECT, true, 0},   {"gaps", TEXTS, false, 8},
};
static const struct row instance_rows[] = {
    {"handle", TEXT, true, 128},   {"name", TEXT, false, 128}, {"version", TEXT, true, 128},
    {"address", TEXT, false, 127}, {"side", NUMBER, false, 1}, {"job", TEXT, false, ROLLBACK_JOB - 1},
    {"running", TRUTH, true, 0},   {"ready", TRUTH, true, 0},  {"why", TEXT, false, 4096},
};
#define N_OF(a) (sizeof(a) / sizeof *(a))

/* No control characters; and nothing that a program would take for an option. */
static bool text_ok(const json_t *j, size_t max)
{
    const char *s = json_string_value(j);
    if (!s || json_string_length(j) > max || *s == '-')
        return false;
    for (size_t i = 0; i < json_string_length(j); i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return false;
    return true;
}

static bool value_ok(const json_t *j, const struct row *r)
{
    const json_t *item;
    size_t i;
    switch (r->kind) {
    case TEXT:
        return text_ok(j, r->max) && (!r->needed || json_string_length(j) > 0);
    case NUMBER:
        return json_is_integer(j) && json_integer_value(j) >= 0 && (uint64_t)json_integer_value(j) <= r->max;
    case TRUTH:
        return json_is_boolean(j);
    case OBJECT:
        return json_is_object(j);
    default:
        if (!json_is_array(j) || json_array_size(j) > r->max)
            return false;
        json_array_foreach(j, i, item) if (!text_ok(item, 255)) return false;
        return true;
    }
}

static const char *allowed(const struct row *r, char *buf, size_t size)
{
    switch (r->kind) {
    case TEXT:
        snprintf(buf, size, "a text of %d to %zu bytes without control characters that does not begin with `-`",
                 r->needed, r->max);
        break;
    case NUMBER:
        snprintf(buf, size, "a whole number from 0 to %zu", r->max);
        break;
    case TRUTH:
        snprintf(buf, size, "true or false");
        break;
    case OBJECT:
        snprintf(buf, size, "an object");
        break;
    default:
        snprintf(buf, size, "a list of up to %zu texts", r->max);
    }
    return buf;
}

static int check_rows(const json_t *object, const char *what, size_t at, const struct row *rows, size_t n,
                      struct err *e)
{
    const char *key;
    json_t *value;
    char buf[128];
    if (!json_is_object(object))
        return err_set(e, "%s[%zu] is not an object", what, at);
    for (size_t i = 0; i < n; i++) {
        const json_t *j = json_object_get(object, rows[i].key);
        if (!j && rows[i].needed)
            return err_set(e, "%s[%zu] has no `%s`: %s", what, at, rows[i].key, allowed(&rows[i], buf, sizeof buf));
        if (j && !value_ok(j, &rows[i]))
            return err_set(e, "%s[%zu].%s: allowed is %s", what, at, rows[i].key, allowed(&rows[i], buf, sizeof buf));
    }
    json_object_foreach((json_t *)object, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < n; i++)
            known |= strcmp(rows[i].key, key) == 0;
        if (!known)
            return err_set(e, "%s[%zu]: `%.60s` is not known here", what, at, key);
    }
    return 0;
}

/* ---- taking them ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static int take_version(const json_t *j, size_t at, struct exec_view *v, struct err *e)
{
    if (check_rows(j, "versions", at, version_rows, N_OF(version_rows), e))
        return -1;
    struct executor_version *x = &v->versions[v->n_versions];
    const json_t *spec = json_object_get(j, "spec"), *gaps = json_object_get(j, "gaps"), *gap;
    size_t i;
    for (i = 0; i < v->n_versions; i++)
        if (strcmp(v->versions[i].v.name, text_of(j, "name")) == 0)
            return err_set(e, "versions[%zu].name: `%s` stands there twice", at, text_of(j, "name"));
    *x = (struct executor_version){0};
    x->spec = json_dumps(spec, JSON_SORT_KEYS | JSON_COMPACT);
    assert(x->spec && "out of memory for a spec");
    v->n_versions++; /* exec_view_done() frees it from here on */
    x->spec_len = strlen(x->spec);
    if (x->spec_len > EXEC_SPEC_MAX)
        return err_set(e, "versions[%zu].spec has %zu bytes; up to %d are recorded", at, x->spec_len, EXEC_SPEC_MAX);
    snprintf(x->v.name, sizeof x->v.name, "%s", text_of(j, "name"));
    snprintf(x->v.digest, sizeof x->v.digest, "%s", text_of(j, "digest"));
    snprintf(x->image, sizeof x->image, "%s", text_of(j, "image"));
    x->v.data_schema = json_integer_value(json_object_get(j, "schema"));
    executor_config_hash(spec, x->v.config_hash);
    executor_version_id(x->v.digest, x->v.config_hash, x->v.id);
    json_array_foreach(gaps, i, gap)
    {
        snprintf(x->gap[i], sizeof x->gap[i], "%s", json_string_value(gap));
        x->n_gaps++;
    }
    x->v.gaps = x->n_gaps > 0;
    return 0;
}

static const struct executor_version *version_named(const struct exec_view *v, const char *name)
{
    for (size_t i = 0; i < v->n_versions; i++)
        if (strcmp(v->versions[i].v.name, name) == 0)
            return &v->versions[i];
    return NULL;
}

static int take_instance(const json_t *j, size_t at, struct exec_view *v, struct err *e)
{
    char host[HOSTPORT_HOST_MAX];
    int port;
    if (check_rows(j, "instances", at, instance_rows, N_OF(instance_rows), e))
        return -1;
    struct executor_instance *x = &v->instances[v->n];
    const struct executor_version *version = version_named(v, text_of(j, "version"));
    const char *address = text_of(j, "address");
    if (!version)
        return err_set(e, "instances[%zu].version: `%s` is none of `versions`", at, text_of(j, "version"));
    if (*address && hostport_split(address, 0, host, &port) != 0)
        return err_set(e, "instances[%zu].address: found `%.60s`; allowed is host:port", at, address);
    for (size_t i = 0; i < v->n; i++)
        if (strcmp(v->instances[i].handle, text_of(j, "handle")) == 0)
            return err_set(e, "instances[%zu].handle: `%s` stands there twice", at, text_of(j, "handle"));
    *x = (struct executor_instance){.side = (int)json_integer_value(json_object_get(j, "side")),
                                    .running = json_is_true(json_object_get(j, "running")),
                                    .ready = json_is_true(json_object_get(j, "ready"))};
    if (x->ready && !x->running)
        return err_set(e, "instances[%zu] is ready, but does not run", at);
    snprintf(x->handle, sizeof x->handle, "%s", text_of(j, "handle"));
    snprintf(x->name, sizeof x->name, "%s", text_of(j, *text_of(j, "name") ? "name" : "handle"));
    memcpy(x->version, version->v.id, sizeof x->version);
    snprintf(x->address, sizeof x->address, "%s", address);
    snprintf(x->job, sizeof x->job, "%s", text_of(j, "job"));
    snprintf(x->why, sizeof x->why, "%s", text_of(j, "why"));
    x->why[utf8_valid_until(x->why, strlen(x->why))] = '\0'; /* not cut inside a character */
    v->n++;
    return 0;
}

static int take(const json_t *j, struct exec_view *v, struct err *e)
{
    const json_t *versions = json_object_get(j, "versions"), *instances = json_object_get(j, "instances"), *item;
    size_t i;
    if (!json_is_array(versions) || !json_is_array(instances) || json_object_size(j) != 2)
        return err_set(e, "allowed is {\"versions\": [...], \"instances\": [...]} and nothing else");
    if (json_array_size(versions) > EXEC_VERSIONS || json_array_size(instances) > EXECUTOR_INSTANCES)
        return err_set(e, "%zu versions and %zu instances; up to %d and %d can be handled", json_array_size(versions),
                       json_array_size(instances), EXEC_VERSIONS, EXECUTOR_INSTANCES);
    json_array_foreach(versions, i, item) if (take_version(item, i, v, e)) return -1;
    json_array_foreach(instances, i, item) if (take_instance(item, i, v, e)) return -1;
    return 0;
}

int exec_view_read(const char *text, size_t len, struct exec_view *v, struct err *e)
{
    json_error_t at;
    v->n = v->n_versions = 0;
    json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
    int bad = j ? take(j, v, e) : err_set(e, "not JSON: line %d, column %d: %s", at.line, at.column, at.text);
    json_decref(j);
    if (bad)
        exec_view_done(v);
    return bad;
}

void exec_view_done(struct exec_view *v)
{
    for (size_t i = 0; i < v->n_versions; i++)
        free(v->versions[i].spec);
    v->n = v->n_versions = 0;
}
