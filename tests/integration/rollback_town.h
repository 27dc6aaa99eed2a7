/* rollback_town.h - a world for redoubt-rollback: versions that a small program starts and stops in a directory, and traffic that a web
 * server divides. The test sees every act, by whom it was done, and what stands. */
#ifndef REDOUBT_TESTS_ROLLBACK_TOWN_H
#define REDOUBT_TESTS_ROLLBACK_TOWN_H

#include "../harness.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <jansson.h>
#include <microhttpd.h>
#include <nats/nats.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One line per instance: version|side|job|running|ready. `viewer` names who asks, `log` who did what. */
static const char world_program[] =
    "#!/bin/sh\n"
    "set -eu\n"
    "d=$1 verb=$2\n"
    "shift 2\n"
    "if [ -e \"$d/slow-$verb\" ]; then sleep \"$(cat \"$d/slow-$verb\")\"; fi\n"
    "if [ -e \"$d/fail-$verb\" ]; then cat \"$d/fail-$verb\"; exit 1; fi\n"
    "if [ -e \"$d/fail-$verb-${1:-}\" ]; then cat \"$d/fail-$verb-$1\"; exit 1; fi\n"
    "if [ $verb = view ]; then echo $PPID > \"$d/viewer.$$\"; mv \"$d/viewer.$$\" \"$d/viewer\"; else echo \"$PPID "
    "$verb $*\" >> "
    "\"$d/log\"; fi\n"
    "put() { echo \"$2\" > \"$d/new.$$\"; mv \"$d/new.$$\" \"$d/i/$1\"; }\n"
    "each() { for f in \"$d\"/i/*; do [ -e \"$f\" ] || continue; IFS='|' read -r v s j run ready < \"$f\"; "
    "if [ \"$v\" = \"$1\" ] && [ \"$s\" = \"$2\" ]; then $3 \"${f##*/}\"; fi; done; }\n"
    "stopped() { put \"$1\" \"$v|$s|$j|false|false\"; }\n"
    "started() { put \"$1\" \"$v|$s|$j|true|true\"; }\n"
    "removed() { rm -f \"$d/i/$1\"; }\n"
    "case $verb in\n"
    "view)\n"
    "  printf '{\"instances\":['\n"
    "  c= seen=\n"
    "  for f in \"$d\"/i/*; do\n"
    "    [ -e \"$f\" ] || continue\n"
    "    IFS='|' read -r v s j run ready < \"$f\"\n"
    "    printf "
    "'%s{\"handle\":\"%s\",\"version\":\"%s\",\"side\":%s,\"job\":\"%s\",\"running\":%s,\"ready\":%s,\"address\":"
    "\"127.0.0.1:%s\"}' \"$c\" \"${f##*/}\" \"$v\" \"$s\" \"$j\" \"$run\" \"$ready\" 9\n"
    "    c=,\n"
    "    case \" $seen \" in *\" $v \"*) ;; *) seen=\"$seen $v\" ;; esac\n"
    "  done\n"
    "  printf '],\"versions\":['\n"
    "  c=\n"
    "  for v in $seen; do printf '%s' \"$c\"; cat \"$d/v/$v\"; c=,; done\n"
    "  printf ']}' ;;\n"
    "check) ;;\n"
    "up)\n"
    "  spec=$(cat)\n"
    "  case $spec in *\"$1\"*) ;; *) echo \"the spec is not that of $1: $spec\"; exit 1 ;; esac\n"
    "  n=0\n"
    "  while [ $n -lt $3 ]; do put \"$1-$2-$n\" \"$1|$2|$4|true|true\"; n=$((n + 1)); done ;;\n"
    "stop) each \"$1\" \"$2\" stopped ;;\n"
    "start) each \"$1\" \"$2\" started ;;\n"
    "remove) each \"$1\" \"$2\" removed ;;\n"
    "esac\n";

#define WORLD_MAX  24
#define SHARES_MAX 512
struct world {
    char name[NAME_MAX_LEN + 1], dir[600];
    int share[2];            /* as the traffic has it */
    int set[SHARES_MAX];     /* what was set for side 0, in order */
    uint64_t at[SHARES_MAX]; /* with which epoch */
    size_t n_set;
    bool gone; /* the traffic does not answer */
};
struct worlds {
    struct world w[WORLD_MAX];
    size_t n;
    char program[600];
    pthread_mutex_t lock; /* of the shares: the web server has a thread of its own */
    struct MHD_Daemon *web;
    int port;
};

static void world_write(const char *path, const char *text, mode_t mode)
{
    char tmp[720];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    FILE *f = fopen(tmp, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(tmp, mode), 0);
    assert_int_equal(rename(tmp, path), 0);
}

static void world_file(const struct world *w, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    if (text)
        world_write(path, text, 0644);
    else
        unlink(path);
}

/* What a file of the world holds; "" if it is not there. */
static const char *world_text(const struct world *w, const char *name, char *buf, size_t size)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(buf, 1, size - 1, f) : 0;
    buf[n] = '\0';
    if (f)
        fclose(f);
    return buf;
}

static void world_version(const struct world *w, const char *version)
{
    char name[80], text[300];
    snprintf(name, sizeof name, "v/%s", version);
    snprintf(text, sizeof text,
             "{\"name\":\"%s\",\"digest\":\"sha256:%s\",\"image\":\"agent:%s\",\"spec\":{\"image\":\"agent:%s\"}}",
             version, version, version, version);
    world_file(w, name, text);
}

/* Deploys by hand: that version and nothing else, on side 0. */
static void world_deploy(const struct world *w, const char *version, unsigned instances)
{
    char command[900];
    world_version(w, version);
    for (unsigned i = 0; i < instances; i++) {
        char name[80], text[160];
        snprintf(name, sizeof name, "i/by-hand-%s-%u", version, i);
        snprintf(text, sizeof text, "%s|0||true|true\n", version);
        world_file(w, name, text);
    }
    snprintf(command, sizeof command,
             "cd %s/i && for f in *; do case $f in by-hand-%s-*) ;; *) rm -f \"$f\" ;; esac; done", w->dir, version);
    assert_int_equal(system(command), 0);
}

/* Instances of a version that stand on a side; running ones only. */
static unsigned world_running(const struct world *w, const char *version, int side)
{
    char command[900], buf[32] = "";
    snprintf(command, sizeof command, "cat %s/i/* 2>/dev/null | grep -c '^%s|%d|.*|true|true$'", w->dir, version,
             side);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    if (!fgets(buf, sizeof buf, f))
        buf[0] = '\0';
    pclose(f);
    return (unsigned)atoi(buf);
}

static unsigned world_instances(const struct world *w)
{
    char command[900], buf[32] = "";
    snprintf(command, sizeof command, "ls %s/i | wc -l", w->dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    if (!fgets(buf, sizeof buf, f))
        buf[0] = '\0';
    pclose(f);
    return (unsigned)atoi(buf);
}

/* Who asked last what stands: whoever acts for it. */
static pid_t world_holder(const struct world *w)
{
    char buf[40];
    return (pid_t)atoi(world_text(w, "viewer", buf, sizeof buf));
}

/* ---- the traffic ---- */

static enum MHD_Result world_on_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
                                        const char *version, const char *data, size_t *len, void **ctx)
{
    struct worlds *all = cls;
    struct {
        char body[8192];
        size_t n;
    } *x = *ctx;
    (void)version;
    if (!x) {
        *ctx = calloc(1, sizeof *x);
        return *ctx ? MHD_YES : MHD_NO;
    }
    if (*len) {
        size_t room = sizeof x->body - 1 - x->n, take = *len < room ? *len : room;
        memcpy(x->body + x->n, data, take);
        x->n += take;
        *len = 0;
        return MHD_YES;
    }
    char answer[200] = "{}";
    unsigned status = 404;
    pthread_mutex_lock(&all->lock);
    for (size_t i = 0; i < all->n; i++) {
        struct world *w = &all->w[i];
        if (strcmp(url + 1, w->name) != 0)
            continue;
        status = w->gone ? 503 : 200;
        if (status == 200 && strcmp(method, "PUT") == 0) {
            json_t *root = json_loads(x->body, 0, NULL), *shares = json_object_get(root, "shares"), *s;
            size_t k;
            json_array_foreach(shares, k, s)
            {
                int side = (int)json_integer_value(json_object_get(s, "side"));
                w->share[side & 1] = (int)json_integer_value(json_object_get(s, "percent"));
            }
            if (w->n_set < SHARES_MAX) {
                w->at[w->n_set] = (uint64_t)json_integer_value(json_object_get(root, "epoch"));
                w->set[w->n_set++] = w->share[0];
            }
            json_decref(root);
        }
        snprintf(answer, sizeof answer, "{\"shares\":[{\"side\":0,\"percent\":%d},{\"side\":1,\"percent\":%d}]}",
                 w->share[0], w->share[1]);
    }
    pthread_mutex_unlock(&all->lock);
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(answer), answer, MHD_RESPMEM_MUST_COPY);
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static void world_on_over(void *cls, struct MHD_Connection *c, void **ctx, enum MHD_RequestTerminationCode why)
{
    (void)cls, (void)c, (void)why;
    free(*ctx);
}

static int world_share(struct worlds *all, struct world *w, int side)
{
    pthread_mutex_lock(&all->lock);
    int v = w->share[side];
    pthread_mutex_unlock(&all->lock);
    return v;
}

static struct world *world_add(struct worlds *all, struct harness *h, const char *name)
{
    char path[700];
    assert_true(all->n < WORLD_MAX);
    struct world *w = &all->w[all->n++];
    snprintf(w->name, sizeof w->name, "%s", name);
    snprintf(w->dir, sizeof w->dir, "%s/%s", harness_dir(h), name);
    w->share[0] = 100;
    assert_int_equal(mkdir(w->dir, 0755), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", w->dir, i ? "i" : "v");
        assert_int_equal(mkdir(path, 0755), 0);
    }
    return w;
}

static void worlds_open(struct worlds *all, struct harness *h)
{
    pthread_mutex_init(&all->lock, NULL);
    snprintf(all->program, sizeof all->program, "%s/world", harness_dir(h));
    world_write(all->program, world_program, 0755);
    all->port = harness_free_port();
    all->web = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, (uint16_t)all->port, NULL, NULL, world_on_request,
                                all, MHD_OPTION_NOTIFY_COMPLETED, world_on_over, NULL, MHD_OPTION_END);
    assert_non_null(all->web);
}

static void world_settings(const struct worlds *all, const struct world *w, FILE *f)
{
    const char *p = all->program, *d = w->dir;
    fprintf(f,
            "    - name: %s\n      executor: exec\n      exec:\n"
            "        view: [%s, %s, view]\n        check: [%s, %s, check, \"{{version}}\"]\n"
            "        up: [%s, %s, up, \"{{version}}\", \"{{side}}\", \"{{count}}\", \"{{job}}\"]\n"
            "        stop: [%s, %s, stop, \"{{version}}\", \"{{side}}\"]\n"
            "        start: [%s, %s, start, \"{{version}}\", \"{{side}}\"]\n"
            "        remove: [%s, %s, remove, \"{{version}}\", \"{{side}}\"]\n"
            "        timeout: 20s\n"
            "      traffic: { type: webhook, url: \"http://127.0.0.1:%d/%s\" }\n",
            w->name, p, d, p, d, p, d, p, d, p, d, p, d, all->port, w->name);
}

#endif
