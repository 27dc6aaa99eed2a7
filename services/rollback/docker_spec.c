/* docker_spec.c - a container's create spec out of what inspect says of it and of its image. Pure.
 *
 * What the image says by itself is taken away, so that the configuration is only what somebody chose; what the engine fills in for one
 * container (ids, addresses, defaults) is, too. A container that is made from the spec has the same spec again. */
#include "rollback/docker_spec.h"
#include "rollback/docker_api.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLD_MARK    "-rb-old-"
#define ID_SHORT    12
#define SHM_DEFAULT 67108864

/* ---- names ---- */

static bool all_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

bool docker_is_unnamed(const char *volume)
{
    return all_hex(volume, DOCKER_ID - 1);
}

const char *docker_plain_name(const char *name, char *buf)
{
    snprintf(buf, 129, "%s", *name == '/' ? name + 1 : name);
    size_t n = strlen(buf), tail = strlen(OLD_MARK) + ID_SHORT;
    if (n > tail && strncmp(buf + n - tail, OLD_MARK, strlen(OLD_MARK)) == 0 && all_hex(buf + n - ID_SHORT, ID_SHORT))
        buf[n - tail] = '\0';
    return buf;
}

const char *docker_old_name(const char *name, const char *id, char *buf, size_t size)
{
    snprintf(buf, size, "%.100s" OLD_MARK "%.*s", name, ID_SHORT, id);
    return buf;
}

/* ---- taking away ---- */

/* Does it say nothing? Then the engine's default is meant. */
static bool is_zero(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_STRING:
        return !*json_string_value(v);
    case JSON_INTEGER:
        return json_integer_value(v) == 0;
    case JSON_REAL:
        return json_real_value(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    default:
        return false;
    }
}

/* Here nothing and zero are not the same. */
static bool zero_counts(const char *key, const json_t *v)
{
    static const char *const keys[] = {"MemorySwappiness", "Init", "MaskedPaths", "ReadonlyPaths", "StopTimeout"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return !json_is_null(v);
    return false;
}

static void drop_zeros(json_t *object)
{
    const char *key;
    json_t *v;
    void *next;
    json_object_foreach_safe(object, next, key, v) if (is_zero(v) && !zero_counts(key, v))
        json_object_del(object, key);
}

static void drop_keys(json_t *object, const char *const *keys)
{
    for (; *keys; keys++)
        json_object_del(object, *keys);
}

static bool same(const json_t *a, const json_t *b)
{
    bool none_a = !a || is_zero(a), none_b = !b || is_zero(b);
    return none_a || none_b ? none_a == none_b : json_equal(a, b);
}

static bool holds_text(const json_t *array, const char *text)
{
    size_t i;
    const json_t *v;
    json_array_foreach(array, i, v)
    {
        const char *s = json_string_value(v);
        if (s && strcmp(s, text) == 0)
            return true;
    }
    return false;
}

/* ---- Config ---- */

static void subtract_list(json_t *object, const char *key, const json_t *image)
{
    json_t *mine = json_object_get(object, key), *rest = json_array();
    size_t i;
    json_t *v;
    json_array_foreach(mine, i, v)
    {
        const char *s = json_string_value(v);
        if (s && !holds_text(json_object_get(image, key), s))
            json_array_append(rest, v);
    }
    json_object_set_new(object, key, rest);
}

/* Only where the value is the same, too. */
static void subtract_map(json_t *object, const char *key, const json_t *image)
{
    const json_t *theirs = json_object_get(image, key);
    json_t *mine = json_object_get(object, key);
    const char *name;
    json_t *v;
    void *next;
    json_object_foreach_safe(mine, next, name, v)
    {
        const json_t *t = json_object_get(theirs, name);
        if (t && json_equal(t, v))
            json_object_del(mine, name);
    }
}

/* An entrypoint that is given takes the image's command away, so the two go together. */
static void subtract_command(json_t *config, const json_t *image)
{
    const json_t *entry = json_object_get(config, "Entrypoint"), *cmd = json_object_get(config, "Cmd");
    const json_t *image_cmd = json_object_get(image, "Cmd");
    bool entry_same = same(entry, json_object_get(image, "Entrypoint"));
    bool cmd_lost = (!cmd || is_zero(cmd)) && image_cmd && !is_zero(image_cmd);
    if (entry_same && !cmd_lost) {
        json_object_del(config, "Entrypoint");
        if (same(cmd, image_cmd))
            json_object_del(config, "Cmd");
    } else if (!entry || is_zero(entry)) {
        json_object_set_new(config, "Entrypoint", json_pack("[s]", "")); /* the engine's word for none */
    }
}

static void drop_labels(json_t *labels)
{
    static const char *const ours[] = {DOCKER_LABEL_DEPLOYMENT, DOCKER_LABEL_JOB,    DOCKER_LABEL_VERSION,
                                       DOCKER_LABEL_SIDE,       DOCKER_LABEL_INDEX,  DOCKER_LABEL_HOME,
                                       DOCKER_LABEL_IMAGE,      DOCKER_LABEL_DIGEST, NULL};
    drop_keys(labels, ours);
}

static json_t *config_of(const json_t *container, const json_t *image, const char *mode)
{
    static const char *const one_only[] = {"Image",   "AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce",
                                           "OnBuild", NULL};
    static const char *const plain[] = {"User",        "WorkingDir",  "StopSignal", "Shell",
                                        "Healthcheck", "ArgsEscaped", NULL};
    json_t *c = json_deep_copy(json_object_get(container, "Config"));
    if (!json_is_object(c)) {
        json_decref(c);
        c = json_object();
    }
    const char *host = docker_text(c, "Hostname");
    bool not_own = strcmp(mode, "host") == 0 || strncmp(mode, "container:", 10) == 0;
    if (not_own || (strlen(host) == ID_SHORT && strncmp(host, docker_text(container, "Id"), ID_SHORT) == 0))
        json_object_del(c, "Hostname");
    drop_keys(c, one_only);
    for (const char *const *k = plain; *k; k++)
        if (same(json_object_get(c, *k), json_object_get(image, *k)))
            json_object_del(c, *k);
    subtract_command(c, image);
    subtract_list(c, "Env", image);
    subtract_map(c, "Labels", image);
    subtract_map(c, "ExposedPorts", image);
    subtract_map(c, "Volumes", image);
    drop_labels(json_object_get(c, "Labels"));
    return c;
}

/* ---- HostConfig ---- */

/* "/db:/agent/alias" is what inspect makes of "db:alias". */
static void plain_links(json_t *host)
{
    json_t *links = json_object_get(host, "Links"), *out = json_array();
    size_t i;
    json_t *v;
    json_array_foreach(links, i, v)
    {
        char text[300];
        const char *s = json_string_value(v), *colon = s ? strchr(s, ':') : NULL, *alias = s ? strrchr(s, '/') : NULL;
        if (!colon || !alias || alias < colon)
            json_array_append(out, v);
        else {
            snprintf(text, sizeof text, "%.*s:%s", (int)(colon - s - (*s == '/')), s + (*s == '/'), alias + 1);
            json_array_append_new(out, json_string(text));
        }
    }
    json_object_set_new(host, "Links", out);
}

/* The destination of "source:destination[:mode]" into buf; false if there is none. */
static bool bind_destination(const char *bind, char *buf, size_t size)
{
    const char *at = strchr(bind, ':');
    if (!at)
        return false;
    snprintf(buf, size, "%.*s", (int)strcspn(at + 1, ":"), at + 1);
    return true;
}

/* A volume without a name belongs to one container: the new one gets that of the container whose place it takes. */
static bool unnamed_bind(const char *bind)
{
    char source[DOCKER_ID];
    size_t n = strcspn(bind, ":");
    const char *mode = strchr(bind + n + (bind[n] != '\0'), ':');
    if (n != DOCKER_ID - 1 || (mode && strcmp(mode, ":rw") != 0 && strcmp(mode, ":z") != 0))
        return false;
    memcpy(source, bind, n);
    source[n] = '\0';
    return docker_is_unnamed(source);
}

static bool is_bound(const json_t *host, const char *destination)
{
    size_t i;
    const json_t *v;
    char d[512];
    json_array_foreach(json_object_get(host, "Binds"), i, v)
    {
        if (json_is_string(v) && bind_destination(json_string_value(v), d, sizeof d) && strcmp(d, destination) == 0)
            return true;
    }
    json_array_foreach(json_object_get(host, "Mounts"), i, v)
    {
        if (strcmp(docker_text(v, "Target"), destination) == 0)
            return true;
    }
    return false;
}

static void drop_unnamed(json_t *host)
{
    json_t *rest = json_array(), *v;
    size_t i;
    json_array_foreach(json_object_get(host, "Binds"), i, v)
    {
        if (json_is_string(v) && !unnamed_bind(json_string_value(v)))
            json_array_append(rest, v);
    }
    json_object_set_new(host, "Binds", rest);
    json_array_foreach(json_object_get(host, "Mounts"), i, v)
    {
        if (strcmp(docker_text(v, "Type"), "volume") == 0 && docker_is_unnamed(docker_text(v, "Source")))
            json_object_del(v, "Source");
        const json_t *source = json_object_get(v, "Source");
        if (source && is_zero(source))
            json_object_del(v, "Source");
    }
}

/* What came by --volumes-from is bound by name: the container that it came from may be gone one day. */
static void resolve_volumes_from(json_t *host, const json_t *mounts)
{
    const json_t *from = json_object_get(host, "VolumesFrom"), *m;
    size_t i;
    if (from && !is_zero(from))
        json_array_foreach(mounts, i, m)
        {
            char bind[1100];
            const char *to = docker_text(m, "Destination"), *type = docker_text(m, "Type");
            bool volume = strcmp(type, "volume") == 0;
            const char *source = docker_text(m, volume ? "Name" : "Source");
            if ((!volume && strcmp(type, "bind") != 0) || (volume && docker_is_unnamed(source)) || is_bound(host, to))
                continue;
            snprintf(bind, sizeof bind, "%.500s:%.500s%s", source, to,
                     json_is_false(json_object_get(m, "RW")) ? ":ro" : "");
            json_array_append_new(json_object_get(host, "Binds"), json_string(bind));
        }
    json_object_del(host, "VolumesFrom");
}

/* The engine's own lists: a newer engine has longer ones, and they are taken instead. */
static void drop_default_paths(json_t *host)
{
    if (holds_text(json_object_get(host, "MaskedPaths"), "/proc/kcore"))
        json_object_del(host, "MaskedPaths");
    if (holds_text(json_object_get(host, "ReadonlyPaths"), "/proc/sys"))
        json_object_del(host, "ReadonlyPaths");
}

static bool is_text(const json_t *object, const char *key, const char *a, const char *b)
{
    const char *s = docker_text(object, key);
    return strcmp(s, a) == 0 || strcmp(s, b) == 0;
}

static json_t *host_of(const json_t *container, const char *mode)
{
    static const char *const one_only[] = {"ContainerIDFile", "ConsoleSize", NULL};
    json_t *h = json_deep_copy(json_object_get(container, "HostConfig"));
    if (!json_is_object(h)) {
        json_decref(h);
        h = json_object();
    }
    drop_keys(h, one_only);
    json_object_set_new(h, "NetworkMode", json_string(mode));
    plain_links(h);
    drop_unnamed(h);
    resolve_volumes_from(h, json_object_get(container, "Mounts"));
    drop_default_paths(h);
    if (json_integer_value(json_object_get(h, "ShmSize")) == SHM_DEFAULT)
        json_object_del(h, "ShmSize");
    if (is_text(h, "Runtime", "runc", "io.containerd.runc.v2"))
        json_object_del(h, "Runtime");
    if (is_text(h, "Isolation", "default", ""))
        json_object_del(h, "Isolation");
    if (is_text(json_object_get(h, "RestartPolicy"), "Name", "no", ""))
        json_object_del(h, "RestartPolicy");
    drop_zeros(h);
    return h;
}

/* ---- networks ---- */

/* Which of them it was made in: by name, although inspect may say its id. One that it has left since is none any more. */
static const char *mode_of(const json_t *container)
{
    const json_t *networks = json_object_get(json_object_get(container, "NetworkSettings"), "Networks"), *n;
    const char *mode = docker_text(json_object_get(container, "HostConfig"), "NetworkMode"), *name, *least = NULL;
    if (!*mode)
        mode = "default";
    if (strcmp(mode, "host") == 0 || strcmp(mode, "none") == 0 || strncmp(mode, "container:", 10) == 0 ||
        json_object_get(networks, mode) || (strcmp(mode, "default") == 0 && json_object_get(networks, "bridge")))
        return strcmp(mode, "bridge") == 0 ? "default" : mode;
    json_object_foreach((json_t *)networks, name, n)
    {
        const char *id = docker_text(n, "NetworkID");
        if (*id && strncmp(id, mode, strlen(mode)) == 0)
            return name;
        if (!least || strcmp(name, least) < 0)
            least = name;
    }
    return least ? least : mode;
}

static json_t *endpoint_of(const json_t *n, const json_t *container)
{
    char own[129];
    json_t *e = json_object(), *aliases = json_array(), *v;
    const char *id = docker_text(container, "Id");
    size_t i;
    docker_plain_name(docker_text(container, "Name"), own);
    json_array_foreach(json_object_get(n, "Aliases"), i, v)
    {
        const char *s = json_string_value(v);
        bool of_one = s && ((strlen(s) == ID_SHORT && strncmp(s, id, ID_SHORT) == 0) || strcmp(s, own) == 0);
        if (s && !of_one && !holds_text(aliases, s))
            json_array_append(aliases, v);
    }
    json_object_set_new(e, "Aliases", aliases);
    static const char *const kept[] = {"IPAMConfig", "Links", "DriverOpts", "GwPriority", NULL};
    for (const char *const *k = kept; *k; k++)
        if ((v = json_object_get(n, *k)))
            json_object_set_new(e, *k, json_deep_copy(v));
    if (json_is_object(json_object_get(e, "IPAMConfig")))
        drop_zeros(json_object_get(e, "IPAMConfig"));
    drop_zeros(e);
    return e;
}

static json_t *networks_of(const json_t *container, const char *mode)
{
    json_t *out = json_object();
    const json_t *n;
    const char *name;
    if (strcmp(mode, "host") == 0 || strcmp(mode, "none") == 0 || strncmp(mode, "container:", 10) == 0)
        return out;
    json_object_foreach(json_object_get(json_object_get(container, "NetworkSettings"), "Networks"), name, n)
        json_object_set_new(out, name, endpoint_of(n, container));
    return out;
}

/* ---- the whole ---- */

static json_t *unnamed_of(const json_t *container)
{
    json_t *out = json_object();
    const json_t *m;
    size_t i;
    json_array_foreach(json_object_get(container, "Mounts"), i, m)
    {
        if (strcmp(docker_text(m, "Type"), "volume") == 0 && docker_is_unnamed(docker_text(m, "Name")))
            json_object_set(out, docker_text(m, "Destination"), json_object_get(m, "Name"));
    }
    return out;
}

/* Where a volume without a name is bound by name, as in a container that was made from a spec, it is wanted all the same. */
static void want_unnamed(json_t *config, const json_t *host, const json_t *unnamed, const json_t *image)
{
    json_t *volumes = json_object_get(config, "Volumes");
    const char *to;
    const json_t *v;
    if (!json_is_object(volumes))
        json_object_set_new(config, "Volumes", volumes = json_object());
    json_object_foreach((json_t *)unnamed, to, v)
    {
        if (!json_object_get(json_object_get(image, "Volumes"), to) && !is_bound(host, to))
            json_object_set_new(volumes, to, json_object());
    }
}

static const char *image_name(const json_t *container)
{
    const json_t *config = json_object_get(container, "Config");
    const char *label = docker_text(json_object_get(config, "Labels"), DOCKER_LABEL_IMAGE);
    return *label ? label : docker_text(config, "Image");
}

json_t *docker_spec_make(const json_t *container, const json_t *image)
{
    const json_t *of_image = json_object_get(image, "Config");
    const char *mode = mode_of(container);
    json_t *config = config_of(container, of_image, mode), *host = host_of(container, mode);
    json_t *unnamed = unnamed_of(container);
    want_unnamed(config, host, unnamed, of_image);
    drop_zeros(config);
    char platform[128];
    snprintf(platform, sizeof platform, "%.60s/%.60s", docker_text(image, "Os"), docker_text(image, "Architecture"));
    const char *digest = json_string_value(json_array_get(json_object_get(image, "RepoDigests"), 0));
    return json_pack("{ss ss ss so so so so s[]}", "Image", image_name(container), "RepoDigest", digest ? digest : "",
                     "Platform", platform, "Config", config, "HostConfig", host, "Networks",
                     networks_of(container, mode), "Unnamed", unnamed, "Gaps");
}

void docker_spec_gap(json_t *spec, const char *text)
{
    json_array_append_new(json_object_get(spec, "Gaps"), json_string(text));
}

/* ---- what a version is ---- */

static int by_text(const void *a, const void *b)
{
    const char *x = json_string_value(*(json_t *const *)a), *y = json_string_value(*(json_t *const *)b);
    return strcmp(x ? x : "", y ? y : "");
}

static void sort_texts(json_t *object, const char *key)
{
    json_t *list = json_object_get(object, key), *sorted = json_array();
    size_t n = json_array_size(list);
    json_t **all = calloc(n + 1, sizeof *all);
    for (size_t i = 0; all && i < n; i++)
        all[i] = json_array_get(list, i);
    if (all && n > 0) {
        qsort(all, n, sizeof *all, by_text);
        for (size_t i = 0; i < n; i++)
            json_array_append(sorted, all[i]);
        json_object_set(object, key, sorted);
    }
    free(all);
    json_decref(sorted);
}

/* Lists whose order nobody sees: compose writes them in another one each time. */
static void sort_lists(json_t *config, json_t *host, json_t *networks)
{
    static const char *const of_host[] = {"Binds",    "CapAdd",      "CapDrop", "ExtraHosts",
                                          "GroupAdd", "SecurityOpt", "Links",   NULL};
    const char *name;
    json_t *n;
    sort_texts(config, "Env");
    for (const char *const *k = of_host; *k; k++)
        sort_texts(host, *k);
    json_object_foreach(networks, name, n)
    {
        sort_texts(n, "Aliases");
        sort_texts(n, "Links");
    }
}

static void drop_compose_labels(json_t *config)
{
    json_t *labels = json_object_get(config, "Labels"), *v;
    const char *key;
    void *next;
    json_object_foreach_safe(labels, next, key, v)
    {
        if (strncmp(key, DOCKER_COMPOSE, strlen(DOCKER_COMPOSE)) == 0)
            json_object_del(labels, key);
    }
    if (json_object_size(labels) == 0)
        json_object_del(config, "Labels");
}

const char *docker_spec_hash(const json_t *spec, char *buf)
{
    json_t *config = json_deep_copy(json_object_get(spec, "Config"));
    json_t *host = json_deep_copy(json_object_get(spec, "HostConfig"));
    json_t *networks = json_deep_copy(json_object_get(spec, "Networks"));
    json_t *policy = json_object_get(host, "RestartPolicy");
    drop_compose_labels(config);
    sort_lists(config, host, networks);
    json_object_del(host, "CgroupnsMode"); /* the engine's choice unless somebody made one */
    if (is_text(host, "IpcMode", "private", "shareable"))
        json_object_del(host, "IpcMode");
    if (json_is_object(policy)) { /* what is stopped must not come back, so it changes: see docker_steps.c */
        json_object_clear(policy);
        json_object_set_new(policy, "Name", json_string("always"));
    }
    json_t *all = json_pack("{so so so}", "Config", config, "HostConfig", host, "Networks", networks);
    executor_config_hash(all, buf);
    json_decref(all);
    return buf;
}

static bool plain_word(const char *s)
{
    size_t n = strlen(s);
    for (const char *p = s; *p; p++)
        if (*p <= ' ' || *p > '~')
            return false;
    return n > 0 && n < ROLLBACK_NAME;
}

/* The image's own label, its tag, or a piece of its digest: `latest` names nothing. */
static void name_version(const json_t *spec, const json_t *image, struct rollback_version *v)
{
    const char *label =
        docker_text(json_object_get(json_object_get(image, "Config"), "Labels"), "org.opencontainers.image.version");
    const char *ref = docker_text(spec, "Image"), *slash = strrchr(ref, '/');
    const char *tag = strchr(ref, '@') ? NULL : strrchr(slash ? slash : ref, ':');
    if (plain_word(label))
        snprintf(v->name, sizeof v->name, "%s", label);
    else if (tag && plain_word(tag + 1) && strcmp(tag + 1, "latest") != 0 && strncmp(ref, "sha256:", 7) != 0)
        snprintf(v->name, sizeof v->name, "%s", tag + 1);
    else
        snprintf(v->name, sizeof v->name, "%.12s", strncmp(v->digest, "sha256:", 7) == 0 ? v->digest + 7 : v->digest);
}

void docker_spec_version(const json_t *spec, const json_t *image, struct rollback_version *ret)
{
    const char *schema =
        docker_text(json_object_get(json_object_get(image, "Config"), "Labels"), DOCKER_LABEL_SCHEMA);
    char *end;
    *ret = (struct rollback_version){0};
    snprintf(ret->digest, sizeof ret->digest, "%s", docker_text(image, "Id"));
    docker_spec_hash(spec, ret->config_hash);
    executor_version_id(ret->digest, ret->config_hash, ret->id);
    long long n = strtoll(schema, &end, 10);
    ret->data_schema = *schema && !*end && n > 0 ? n : 0;
    name_version(spec, image, ret);
}
