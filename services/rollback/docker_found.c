/* docker_found.c - one container of a deployment, as inspect says it. Pure. */
#include "rollback/docker_found.h"
#include "rollback/docker_api.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- whose it is ---- */

const char *docker_entry_name(const json_t *entry)
{
    size_t i;
    const json_t *v;
    json_array_foreach(json_object_get(entry, "Names"), i, v)
    {
        const char *s = json_string_value(v);
        if (s && *s == '/' && !strchr(s + 1, '/')) /* the others are what links call it */
            return s + 1;
    }
    return "";
}

static bool label_is(const json_t *labels, const char *key, const char *value)
{
    return *value && strcmp(docker_text(labels, key), value) == 0;
}

bool docker_belongs(const json_t *entry, const struct set_deployment *set)
{
    const json_t *labels = json_object_get(entry, "Labels");
    char plain[129];
    if (*docker_text(labels, DOCKER_LABEL_RUN))
        return false;
    if (label_is(labels, DOCKER_LABEL_DEPLOYMENT, set->name)) {
        /* Another suite on this engine may call a deployment the same: its containers are of another project, or go home elsewhere. */
        const char *project = docker_text(labels, DOCKER_COMPOSE "project"),
                   *home = docker_text(labels, DOCKER_LABEL_HOME);
        if (*set->docker.project && *project)
            return strcmp(project, set->docker.project) == 0;
        return !*set->docker.container || !*home ||
               strcmp(docker_plain_name(home, plain), set->docker.container) == 0;
    }
    if (*set->docker.container &&
        strcmp(docker_plain_name(docker_entry_name(entry), plain), set->docker.container) == 0)
        return true;
    return label_is(labels, DOCKER_COMPOSE "project", set->docker.project) &&
           label_is(labels, DOCKER_COMPOSE "service", set->docker.service) &&
           !label_is(labels, DOCKER_COMPOSE "oneoff", "True");
}

/* ---- where this service itself runs ---- */

/* ID in ".../containers/ID/..." */
static bool id_in(const char *path, char buf[static DOCKER_ID])
{
    static const char between[] = "/containers/";
    for (const char *at = path; (at = strstr(at, between));) {
        at += sizeof between - 1;
        if (strspn(at, "0123456789abcdef") != DOCKER_ID - 1 || at[DOCKER_ID - 1] != '/')
            continue;
        snprintf(buf, DOCKER_ID, "%s", at);
        return true;
    }
    return false;
}

bool docker_own_id(const char *mountinfo, char buf[static DOCKER_ID])
{
    static const char *const files[] = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"};
    for (const char *line = mountinfo; *line;) {
        char root[1024], at[64];
        size_t len = strcspn(line, "\n");
        /* id, parent, device, what is mounted, and where */
        if (sscanf(line, "%*d %*d %*[0-9:] %1023s %63s", root, at) == 2)
            for (size_t i = 0; i < sizeof files / sizeof *files; i++)
                if (strcmp(at, files[i]) == 0 && id_in(root, buf))
                    return true;
        line += len + (line[len] == '\n');
    }
    return false;
}

bool docker_own_project(const json_t *list, const char *id, char buf[static DOCKER_PROJECT])
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v)
    {
        const char *project = docker_text(json_object_get(v, "Labels"), DOCKER_COMPOSE "project");
        if (!*id || strcmp(docker_text(v, "Id"), id) != 0 || !*project || strlen(project) >= DOCKER_PROJECT)
            continue;
        snprintf(buf, DOCKER_PROJECT, "%s", project);
        return true;
    }
    return false;
}

/* ---- times and files ---- */

int64_t docker_time(const char *text, bool *ret_whole)
{
    struct tm t = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    int64_t ms = 0, offset = 0;
    bool whole = true;
    if (!rest || t.tm_year < 70)
        return -1;
    if (*rest == '.') {
        int64_t scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10) {
            ms += (*rest - '0') * scale;
            whole = whole && *rest == '0';
        }
    }
    if (*rest == '+' || *rest == '-') {
        int h = 0, m = 0;
        if (sscanf(rest + 1, "%2d:%2d", &h, &m) != 2)
            return -1;
        offset = (*rest == '-' ? -1 : 1) * (h * 3600LL + m * 60LL);
    } else if (*rest != 'Z') {
        return -1;
    }
    if (ret_whole)
        *ret_whole = whole;
    return ((int64_t)timegm(&t) - offset) * 1000 + ms;
}

bool docker_injected(const char *changed, const char *created, const char *started)
{
    bool whole = false;
    int64_t at = docker_time(changed, &whole), from = docker_time(created, NULL), to = docker_time(started, NULL);
    /* A second of play: an archive rounds. */
    return whole && at >= 0 && from >= 0 && at >= from - 1000 && (to < 0 || at <= to + 1000);
}

static bool below(const char *path, const char *top)
{
    size_t n = strlen(top);
    return n > 0 && strncmp(path, top, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static bool mounted(const json_t *inspect, const char *path)
{
    const json_t *m, *tmpfs = json_object_get(json_object_get(inspect, "HostConfig"), "Tmpfs");
    const char *to;
    size_t i;
    json_array_foreach(json_object_get(inspect, "Mounts"), i, m)
    {
        if (below(path, docker_text(m, "Destination")))
            return true;
    }
    json_object_foreach((json_t *)tmpfs, to, m)
    {
        if (below(path, to))
            return true;
    }
    return false;
}

static bool is_parent(const json_t *changes, const char *path)
{
    size_t i;
    const json_t *v;
    json_array_foreach(changes, i, v)
    {
        const char *p = docker_text(v, "Path");
        if (strlen(p) > strlen(path) && below(p, path))
            return true;
    }
    return false;
}

#define FILES_LOOKED_AT 256 /* whoever writes more into its own layer is not told from compose any more */

json_t *docker_own_files(const json_t *changes, const json_t *inspect)
{
    json_t *out = json_array();
    size_t i;
    const json_t *v;
    json_array_foreach(changes, i, v)
    {
        const char *path = docker_text(v, "Path");
        bool gone = json_integer_value(json_object_get(v, "Kind")) == 2;
        if (*path && !gone && json_array_size(out) < FILES_LOOKED_AT && !mounted(inspect, path) &&
            !is_parent(changes, path))
            json_array_append_new(out, json_string(path));
    }
    return out;
}

/* ---- how it is ---- */

static void one_line(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ')
            *s = ' ';
}

static void why_unhealthy(char *why, size_t size, const json_t *health)
{
    const json_t *log = json_object_get(health, "Log");
    const json_t *last = json_array_get(log, json_array_size(log) ? json_array_size(log) - 1 : 0);
    snprintf(why, size, "its health check fails (%lld): %.90s",
             (long long)json_integer_value(json_object_get(last, "ExitCode")), docker_text(last, "Output"));
    one_line(why);
}

static void state_of(struct docker_container *c, const struct set_deployment *set, int64_t now_unix_ms)
{
    const json_t *state = json_object_get(c->inspect, "State"), *health = json_object_get(state, "Health");
    const char *status = docker_text(state, "Status"), *well = docker_text(health, "Status");
    long long code = (long long)json_integer_value(json_object_get(state, "ExitCode"));
    char *why = c->i.why;
    size_t size = sizeof c->i.why;
    c->fresh = strcmp(status, "created") == 0;
    c->i.running = json_is_true(json_object_get(state, "Running"));
    if (c->fresh) {
        snprintf(why, size, "it is made and was never started: %.100s", docker_text(state, "Error"));
        if (!*docker_text(state, "Error"))
            snprintf(why, size, "it is made and was never started");
        one_line(why);
    } else if (json_is_true(json_object_get(state, "Paused"))) {
        snprintf(why, size, "it is paused: docker unpause %.100s", c->i.name);
    } else if (json_is_true(json_object_get(state, "Restarting"))) {
        snprintf(why, size, "it ended with %lld and is restarted again and again", code);
    } else if (!c->i.running) {
        snprintf(why, size, "it ended with %lld%s", code,
                 json_is_true(json_object_get(state, "OOMKilled")) ? ": its memory was not enough" : "");
    } else if (strcmp(well, "unhealthy") == 0) {
        why_unhealthy(why, size, health);
    } else if (strcmp(well, "starting") == 0) {
        int64_t since = docker_time(docker_text(state, "StartedAt"), NULL);
        bool late = since >= 0 && now_unix_ms - since > set->docker.ready_ms;
        snprintf(why, size, "its health check has not passed yet%s", late ? ", although docker.ready is over" : "");
    } else {
        c->i.ready = true;
    }
}

static void address_of(struct docker_container *c, const struct set_deployment *set)
{
    const char *mode = docker_text(json_object_get(c->spec, "HostConfig"), "NetworkMode");
    const json_t *networks = json_object_get(json_object_get(c->inspect, "NetworkSettings"), "Networks");
    const char *name = *set->docker.network ? set->docker.network : strcmp(mode, "default") == 0 ? "bridge" : mode;
    if (set->docker.port == 0)
        return;
    if (strcmp(mode, "host") == 0) {
        snprintf(c->i.address, sizeof c->i.address, "127.0.0.1:%lld", (long long)set->docker.port);
        return;
    }
    const json_t *n = json_object_get(networks, name);
    const char *v4 = docker_text(n, "IPAddress"), *v6 = docker_text(n, "GlobalIPv6Address");
    if (*v4)
        snprintf(c->i.address, sizeof c->i.address, "%.45s:%lld", v4, (long long)set->docker.port);
    else if (*v6)
        snprintf(c->i.address, sizeof c->i.address, "[%.45s]:%lld", v6, (long long)set->docker.port);
}

/* ---- who it is ---- */

static unsigned number_of(const char *text, unsigned otherwise)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    return *text && !*end && n < 100000 ? (unsigned)n : otherwise;
}

static void identity_of(struct docker_container *c)
{
    const json_t *labels = json_object_get(json_object_get(c->inspect, "Config"), "Labels");
    const char *version = docker_text(labels, DOCKER_LABEL_VERSION), *job = docker_text(labels, DOCKER_LABEL_JOB);
    char plain[129];
    /* Who makes a container anew may copy all its labels, with another image: then it is theirs. */
    c->ours = *job && strlen(job) < sizeof c->i.job && strlen(version) == ROLLBACK_ID - 1 &&
              strcmp(docker_text(labels, DOCKER_LABEL_DIGEST), docker_text(c->inspect, "Image")) == 0;
    docker_plain_name(docker_text(c->inspect, "Name"), plain);
    snprintf(c->home, sizeof c->home, "%s", plain);
    c->index = number_of(docker_text(labels, DOCKER_COMPOSE "container-number"), 1);
    c->index -= c->index > 0;
    if (c->ours) {
        snprintf(c->v.id, sizeof c->v.id, "%s", version);
        snprintf(c->v.by_job, sizeof c->v.by_job, "%s", job);
        snprintf(c->i.job, sizeof c->i.job, "%s", job);
        c->i.side = strcmp(docker_text(labels, DOCKER_LABEL_SIDE), "1") == 0;
        c->index = number_of(docker_text(labels, DOCKER_LABEL_INDEX), c->index);
        if (*docker_text(labels, DOCKER_LABEL_HOME))
            snprintf(c->home, sizeof c->home, "%s", docker_text(labels, DOCKER_LABEL_HOME));
    }
    snprintf(c->i.version, sizeof c->i.version, "%s", c->v.id);
}

void docker_container_read(struct docker_container *c, json_t *inspect, json_t *image,
                           const struct set_deployment *set, int64_t now_unix_ms)
{
    const json_t *host = json_object_get(inspect, "HostConfig");
    const char *name = docker_text(inspect, "Name");
    *c = (struct docker_container){.inspect = inspect, .image = image, .spec = docker_spec_make(inspect, image)};
    docker_spec_version(c->spec, image, &c->v);
    snprintf(c->i.handle, sizeof c->i.handle, "%s", docker_text(inspect, "Id"));
    snprintf(c->i.name, sizeof c->i.name, "%s", *name == '/' ? name + 1 : name);
    snprintf(c->policy, sizeof c->policy, "%s", docker_text(json_object_get(host, "RestartPolicy"), "Name"));
    snprintf(c->finished, sizeof c->finished, "%s", docker_text(json_object_get(inspect, "State"), "FinishedAt"));
    c->removes_itself = json_is_true(json_object_get(host, "AutoRemove"));
    identity_of(c);
    state_of(c, set, now_unix_ms);
    address_of(c, set);
}

void docker_container_done(struct docker_container *c)
{
    json_decref(c->inspect);
    json_decref(c->image);
    json_decref(c->spec);
    *c = (struct docker_container){0};
}
