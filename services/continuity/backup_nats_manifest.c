/* backup_nats_manifest.c - the manifest of saved streams: written, read, and held against the files beside it. */
#include "continuity/backup_nats_manifest.h"
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT  "redoubt-nats"
#define VERSION 1

void nats_file_name(const char *stream, char *buf, size_t size)
{
    snprintf(buf, size, "%s.snapshot", stream);
}

static uint64_t number(const json_t *in, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(in, key));
    return n > 0 ? (uint64_t)n : 0;
}

static bool name_ok(const char *name)
{
    size_t n = name ? strlen(name) : 0;
    return n > 0 && n < NATS_NAME_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

size_t nats_manifest_streams(const json_t *manifest)
{
    return json_array_size(json_object_get(manifest, "streams"));
}

struct nats_saved nats_manifest_stream(const json_t *manifest, size_t i)
{
    const json_t *s = json_array_get(json_object_get(manifest, "streams"), i);
    const json_t *state = json_object_get(s, "state"), *config = json_object_get(s, "config");
    return (struct nats_saved){.name = json_string_value(json_object_get(s, "name")),
                               .file = json_string_value(json_object_get(s, "file")),
                               .sha256 = json_string_value(json_object_get(s, "sha256")),
                               .bytes = number(s, "bytes"),
                               .messages = number(state, "messages"),
                               .last_seq = number(state, "last_seq"),
                               .consumers = json_object_get(s, "consumers"),
                               .max_age_ns = json_integer_value(json_object_get(config, "max_age")),
                               .config = config,
                               .state = state};
}

static bool stream_ok(const struct nats_saved *s)
{
    char file[NATS_NAME_MAX + 16];
    const char *named = json_string_value(json_object_get(s->config, "name"));
    if (!name_ok(s->name) || !s->file || !s->sha256 || strlen(s->sha256) != 64 || !json_is_object(s->state) ||
        !named || !json_is_array(s->consumers))
        return false;
    nats_file_name(s->name, file, sizeof file);
    return strcmp(s->file, file) == 0 && strcmp(named, s->name) == 0;
}

json_t *nats_manifest_read(const char *dir, struct err *e)
{
    char path[PATH_MAX];
    json_error_t je;
    snprintf(path, sizeof path, "%s/" BACKUP_NATS_MANIFEST, dir);
    json_t *m = json_load_file(path, JSON_REJECT_DUPLICATES, &je);
    const char *format = json_string_value(json_object_get(m, "format"));
    if (!m) {
        err_set(e, "cannot read %.300s: %.150s: a save that was broken off has none", path, je.text);
    } else if (!format || strcmp(format, FORMAT) != 0) {
        err_set(e, "%.400s is not a manifest of saved streams", path);
    } else if (number(m, "version") != VERSION) {
        err_set(e, "%.400s has version %llu; this program reads %d", path, (unsigned long long)number(m, "version"),
                VERSION);
    } else if (nats_manifest_streams(m) == 0 || nats_manifest_streams(m) > BACKUP_NATS_STREAMS) {
        err_set(e, "%.400s names no streams, or more than %d", path, BACKUP_NATS_STREAMS);
    } else {
        for (size_t i = 0; i < nats_manifest_streams(m); i++) {
            struct nats_saved s = nats_manifest_stream(m, i);
            if (!stream_ok(&s)) {
                err_set(e, "%.300s: stream %zu is not what it must be: name, file, sha256, config, state, consumers",
                        path, i);
                json_decref(m);
                return NULL;
            }
        }
        return m;
    }
    json_decref(m);
    return NULL;
}

json_t *nats_manifest_new(int64_t saved_unix_ms)
{
    json_t *m = json_pack("{s:s, s:i, s:I, s:[], s:[]}", "format", FORMAT, "version", VERSION, "saved_unix_ms",
                          (json_int_t)saved_unix_ms, "streams", "absent");
    assert(m && "out of memory for a manifest");
    return m;
}

void nats_manifest_add(json_t *manifest, const char *name, const char *sha256, uint64_t bytes, const json_t *config,
                       const json_t *state, const json_t *consumers)
{
    char file[NATS_NAME_MAX + 16];
    nats_file_name(name, file, sizeof file);
    json_t *s = json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o}", "name", name, "file", file, "sha256", sha256,
                          "bytes", (json_int_t)bytes, "config", json_deep_copy(config), "state",
                          json_deep_copy(state), "consumers", json_deep_copy(consumers));
    int failed = json_array_append_new(json_object_get(manifest, "streams"), s);
    assert(!failed && "out of memory for a manifest");
    (void)failed;
}

void nats_manifest_absent(json_t *manifest, const char *name)
{
    (void)json_array_append_new(json_object_get(manifest, "absent"), json_string(name));
}

int nats_manifest_write(const json_t *manifest, const char *dir, struct err *e)
{
    char *text = json_dumps(manifest, JSON_INDENT(2));
    assert(text && "out of memory for a manifest");
    int r = backup_copy_write(dir, BACKUP_NATS_MANIFEST, text, strlen(text), e);
    free(text);
    return r;
}

struct backup_copy_sum nats_manifest_sum(const json_t *manifest)
{
    struct backup_copy_sum sum = {.files = nats_manifest_streams(manifest),
                                  .saved_unix_ms = json_integer_value(json_object_get(manifest, "saved_unix_ms"))};
    for (size_t i = 0; i < sum.files; i++) {
        struct nats_saved s = nats_manifest_stream(manifest, i);
        sum.items += s.messages;
        sum.bytes += s.bytes;
    }
    return sum;
}

int backup_nats_verify(const char *dir, const atomic_bool *stop, struct backup_copy_sum *ret, struct err *e)
{
    json_t *m = nats_manifest_read(dir, e);
    int r = m ? 0 : -1;
    for (size_t i = 0; r == 0 && i < nats_manifest_streams(m); i++) {
        struct nats_saved s = nats_manifest_stream(m, i);
        char path[PATH_MAX], hex[65];
        uint64_t bytes;
        snprintf(path, sizeof path, "%s/%s", dir, s.file);
        r = backup_copy_hash(path, stop, hex, &bytes, e);
        if (r == 0 && bytes != s.bytes)
            r = err_set(e, "%.300s has %llu bytes and had %llu when it was saved: take another copy", path,
                        (unsigned long long)bytes, (unsigned long long)s.bytes);
        else if (r == 0 && strcmp(hex, s.sha256) != 0)
            r = err_set(e, "%.300s is not what was saved (SHA-256 differs): take another copy", path);
    }
    if (r == 0)
        *ret = nats_manifest_sum(m);
    json_decref(m);
    return r;
}
