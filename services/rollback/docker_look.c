/* docker_look.c - which containers of a deployment stand: asked of the engine, one call after the other.
 *
 * The list -> of each that belongs to the deployment: inspect, its image, and (once per start, of those that others made) whether files were
 * put into it that no spec holds. What is gone between two calls is left out. */
#include "rollback/docker_look.h"
#include "common/clock.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHED_MOST 512

struct docker_look {
    struct docker_api *api;
    const struct set_deployment *set;
    struct docker_cache *cache;
    docker_look_cb cb;
    void *ctx;
    json_t *list;
    size_t at; /* the next of the list */
    struct docker_container *c;
    size_t n;
    json_t *inspect, *image; /* of the one at hand */
    char key[160];           /* of its files in the cache */
    json_t *paths, *found;   /* files to be looked at, and those that nobody can make again */
    size_t path;
};

static void next_container(struct docker_look *l);

void docker_cache_done(struct docker_cache *c)
{
    json_decref(c->images);
    json_decref(c->files);
    free(c->project);
    *c = (struct docker_cache){0};
}

static json_t *cached(json_t **map, const char *key)
{
    if (!*map || json_object_size(*map) > CACHED_MOST) {
        json_decref(*map);
        *map = json_object();
    }
    return json_object_get(*map, key);
}

void docker_look_free(struct docker_look *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n; i++)
        docker_container_done(&l->c[i]);
    free(l->c);
    json_decref(l->list);
    json_decref(l->inspect);
    json_decref(l->image);
    json_decref(l->paths);
    json_decref(l->found);
    free(l);
}

static void end(struct docker_look *l, const char *error, bool lasting)
{
    struct docker_sight s = {.ok = !error, .lasting = lasting, .error = error ? error : "", .list = l->list};
    if (!error) {
        s.c = l->c;
        s.n = l->n;
    }
    l->cb(l->ctx, &s);
    docker_look_free(l);
}

static void ask(struct docker_look *l, const char *method, const char *path, docker_cb cb)
{
    struct docker_request r = {.method = method, .path = path};
    docker_api_call(l->api, &r, cb, l);
}

/* ---- one container ---- */

static void gap_of_file(json_t *spec, const char *path)
{
    char text[256];
    snprintf(
        text, sizeof text,
        "%.110s was put into the container before its start (compose configs, docker cp), and a new one would be "
        "without it: mount it as a file",
        path);
    docker_spec_gap(spec, text);
}

static void container_known(struct docker_look *l)
{
    struct docker_container *c = &l->c[l->n++];
    docker_container_read(c, l->inspect, l->image, l->set, clock_wall_ms());
    l->inspect = l->image = NULL;
    size_t i;
    const json_t *v;
    if (!c->ours)
        json_array_foreach(json_object_get(l->cache->files, l->key), i, v) gap_of_file(c->spec, json_string_value(v));
    if (!json_object_get(c->image, "Config"))
        docker_spec_gap(c->spec, "its image is not on this host any more: it could not be made again; pull it");
    next_container(l);
}

/* ---- files that were put into it ---- */

static void next_file(struct docker_look *l);

/* Base64 of JSON: {"mode": of Go's os.FileMode, "mtime": ...}. */
static bool file_injected(const struct docker_answer *a, const json_t *inspect)
{
    const char *head = a->call ? http_header(a->call, "X-Docker-Container-Path-Stat", 0) : NULL;
    unsigned char text[4096];
    size_t n = 0;
    const json_int_t not_plain = (json_int_t)(0x8f280000U); /* ModeType */
    if (!head ||
        sodium_base642bin(text, sizeof text, head, strlen(head), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    json_t *stat = json_loadb((const char *)text, n, 0, NULL);
    bool plain = stat && (json_integer_value(json_object_get(stat, "mode")) & not_plain) == 0;
    bool in = plain && docker_injected(docker_text(stat, "mtime"), docker_text(inspect, "Created"),
                                       docker_text(json_object_get(inspect, "State"), "StartedAt"));
    json_decref(stat);
    return in;
}

static void on_file(void *ctx, const struct docker_answer *a)
{
    struct docker_look *l = ctx;
    if (a->ok && file_injected(a, l->inspect))
        json_array_append(l->found, json_array_get(l->paths, l->path));
    l->path++;
    next_file(l);
}

static void next_file(struct docker_look *l)
{
    const char *path = json_string_value(json_array_get(l->paths, l->path));
    char escaped[DOCKER_PATH - 128], url[DOCKER_PATH];
    if (!path) {
        json_object_set(l->cache->files, l->key, l->found);
        container_known(l);
        return;
    }
    snprintf(url, sizeof url, "/containers/%s/archive?path=%s", docker_text(l->inspect, "Id"),
             docker_escape(path, escaped, sizeof escaped));
    ask(l, "HEAD", url, on_file);
}

static void on_changes(void *ctx, const struct docker_answer *a)
{
    struct docker_look *l = ctx;
    if (!a->ok) { /* some storage drivers cannot say */
        container_known(l);
        return;
    }
    json_decref(l->paths);
    json_decref(l->found);
    l->paths = docker_own_files(a->json, l->inspect);
    l->found = json_array();
    l->path = 0;
    next_file(l);
}

static void look_at_files(struct docker_look *l)
{
    const json_t *state = json_object_get(l->inspect, "State");
    const json_t *labels = json_object_get(json_object_get(l->inspect, "Config"), "Labels");
    char url[DOCKER_PATH];
    snprintf(l->key, sizeof l->key, "%s@%s", docker_text(l->inspect, "Id"), docker_text(state, "StartedAt"));
    bool ours = *docker_text(labels, DOCKER_LABEL_JOB); /* nothing was put into what this service has made */
    if (ours || cached(&l->cache->files, l->key)) {
        container_known(l);
        return;
    }
    snprintf(url, sizeof url, "/containers/%s/changes", docker_text(l->inspect, "Id"));
    ask(l, NULL, url, on_changes);
}

/* ---- its image, itself ---- */

static void on_image(void *ctx, const struct docker_answer *a)
{
    struct docker_look *l = ctx;
    const char *id = docker_text(l->inspect, "Image");
    if (!a->ok && a->status != 404) {
        end(l, a->error, a->lasting);
        return;
    }
    l->image = a->ok && json_is_object(a->json) ? json_deep_copy(a->json) : json_pack("{ss}", "Id", id);
    if (a->ok) {
        cached(&l->cache->images, id);
        json_object_set(l->cache->images, id, l->image);
    }
    look_at_files(l);
}

static void on_inspect(void *ctx, const struct docker_answer *a)
{
    struct docker_look *l = ctx;
    char url[DOCKER_PATH];
    if (a->status == 404) {
        next_container(l);
        return;
    }
    if (!a->ok || strlen(docker_text(a->json, "Id")) != DOCKER_ID - 1) {
        end(l, a->ok ? "the Docker Engine's answer to inspect has no id: what answers is no engine" : a->error,
            a->lasting);
        return;
    }
    l->inspect = json_deep_copy(a->json);
    const char *id = docker_text(l->inspect, "Image");
    json_t *known = cached(&l->cache->images, id);
    if (known) {
        l->image = json_incref(known);
        look_at_files(l);
        return;
    }
    snprintf(url, sizeof url, "/images/%.200s/json", id);
    ask(l, NULL, url, on_image);
}

static void next_container(struct docker_look *l)
{
    for (; l->at < json_array_size(l->list); l->at++) {
        const json_t *entry = json_array_get(l->list, l->at);
        char url[DOCKER_PATH];
        if (!docker_belongs(entry, l->set))
            continue;
        if (l->n == EXECUTOR_INSTANCES) {
            end(l, "more than 64 containers belong to this deployment: remove those that are left over", true);
            return;
        }
        snprintf(url, sizeof url, "/containers/%.128s/json", docker_text(entry, "Id"));
        l->at++;
        ask(l, NULL, url, on_inspect);
        return;
    }
    end(l, NULL, false);
}

static void on_list(void *ctx, const struct docker_answer *a)
{
    struct docker_look *l = ctx;
    if (!a->ok || !json_is_array(a->json)) {
        end(l, a->ok ? "the Docker Engine's list of containers is no list: what answers is no engine" : a->error,
            a->lasting);
        return;
    }
    if (l->cache->project && !*l->cache->project && !docker_own_project(a->json, l->cache->own, l->cache->project)) {
        end(l,
            "docker.project is not set, and this service runs in no container of a compose project of this engine, "
            "whose project could be meant: set docker.project",
            true);
        return;
    }
    l->list = json_deep_copy(a->json);
    next_container(l);
}

struct docker_look *docker_look_start(struct docker_api *api, const struct set_deployment *set,
                                      struct docker_cache *cache, docker_look_cb cb, void *ctx)
{
    struct docker_look *l = calloc(1, sizeof *l);
    if (!l || !(l->c = calloc(EXECUTOR_INSTANCES, sizeof *l->c)))
        abort(); /* somebody waits for its end */
    l->api = api;
    l->set = set;
    l->cache = cache;
    l->cb = cb;
    l->ctx = ctx;
    ask(l, NULL, "/containers/json?all=1", on_list);
    return l;
}
