/* docker_create.c - from a create spec to the body that makes a container of it. Pure. */
#include "rollback/docker_api.h"
#include "rollback/docker_spec.h"
#include <stdio.h>
#include <string.h>

static json_t *copy_of(const json_t *spec, const char *key)
{
    json_t *v = json_deep_copy(json_object_get(spec, key));
    if (json_is_object(v))
        return v;
    json_decref(v);
    return json_object();
}

/* What two containers cannot have at a time. */
static void leave_out(json_t *config, json_t *host)
{
    const char *inside;
    json_t *bindings;
    void *next;
    json_object_del(host, "AutoRemove");
    json_object_del(config, "MacAddress");
    json_object_foreach_safe(json_object_get(host, "PortBindings"), next, inside, bindings)
    {
        if (docker_port_fixed(bindings))
            json_object_del(json_object_get(host, "PortBindings"), inside);
    }
}

static json_t *mount_at(json_t *host, const char *to)
{
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(host, "Mounts"), i, m)
    {
        if (strcmp(docker_text(m, "Target"), to) == 0)
            return m;
    }
    return NULL;
}

/* The data stay: a volume without a name is bound by the one that it has. */
static void bind_unnamed(json_t *host, const json_t *unnamed, const json_t *volumes)
{
    const char *to;
    const json_t *v;
    json_object_foreach((json_t *)unnamed, to, v)
    {
        const char *volume = docker_text(volumes, to);
        json_t *mount = mount_at(host, to);
        char bind[600];
        if (!*volume)
            continue;
        if (mount) {
            json_object_set_new(mount, "Source", json_string(volume));
            continue;
        }
        if (!json_is_array(json_object_get(host, "Binds")))
            json_object_set_new(host, "Binds", json_array());
        snprintf(bind, sizeof bind, "%.70s:%.500s", volume, to);
        json_array_append_new(json_object_get(host, "Binds"), json_string(bind));
    }
}

static json_t *endpoint(const json_t *spec, const char *network)
{
    json_t *e = copy_of(json_object_get(spec, "Networks"), network);
    json_object_del(e, "IPAMConfig"); /* an address that is fixed belongs to one container */
    return e;
}

static bool is_connectable(const char *network)
{
    return *network && strcmp(network, "default") != 0 && strcmp(network, "bridge") != 0 &&
           strcmp(network, "host") != 0 && strcmp(network, "none") != 0 && strncmp(network, "container:", 10) != 0;
}

const char *docker_first_network(const json_t *spec)
{
    const char *mode = docker_text(json_object_get(spec, "HostConfig"), "NetworkMode");
    return is_connectable(mode) ? mode : "";
}

static void label(json_t *labels, const char *key, const char *value)
{
    json_object_set_new(labels, key, json_string(value ? value : ""));
}

static void mark(json_t *config, const json_t *spec, const struct docker_made *m)
{
    char number[24];
    json_t *labels = json_object_get(config, "Labels");
    if (!json_is_object(labels))
        json_object_set_new(config, "Labels", labels = json_object());
    label(labels, DOCKER_LABEL_DEPLOYMENT, m->deployment);
    label(labels, DOCKER_LABEL_JOB, m->job);
    label(labels, DOCKER_LABEL_VERSION, m->version);
    label(labels, DOCKER_LABEL_SIDE, m->side ? "1" : "0");
    label(labels, DOCKER_LABEL_HOME, m->home);
    label(labels, DOCKER_LABEL_IMAGE, docker_text(spec, "Image"));
    label(labels, DOCKER_LABEL_DIGEST, m->image);
    snprintf(number, sizeof number, "%u", m->index);
    label(labels, DOCKER_LABEL_INDEX, number);
    snprintf(number, sizeof number, "%u", m->index + 1);
    if (json_object_get(labels, DOCKER_COMPOSE "container-number"))
        label(labels, DOCKER_COMPOSE "container-number", number);
}

static json_t *body_of(const json_t *spec, json_t *config, json_t *host, const char *image, bool aliases)
{
    const char *first = docker_first_network(spec);
    json_object_set_new(config, "Image", json_string(image));
    json_object_set_new(config, "HostConfig", host);
    if (*first) {
        json_t *e = endpoint(spec, first);
        if (!aliases)
            json_object_del(e, "Aliases");
        json_object_set_new(config, "NetworkingConfig", json_pack("{s{so}}", "EndpointsConfig", first, e));
    }
    return config;
}

json_t *docker_create_body(const json_t *spec, const struct docker_made *m)
{
    json_t *config = copy_of(spec, "Config"), *host = copy_of(spec, "HostConfig");
    leave_out(config, host);
    bind_unnamed(host, json_object_get(spec, "Unnamed"), m->volumes);
    mark(config, spec, m);
    return body_of(spec, config, host, m->image, true);
}

/* Nobody finds it by a name, nothing restarts it, and compose does not know it. */
json_t *docker_run_body(const json_t *spec, const struct docker_made *m, const char *const *argv)
{
    json_t *config = copy_of(spec, "Config"), *host = copy_of(spec, "HostConfig"), *cmd = json_array();
    leave_out(config, host);
    json_object_del(host, "PortBindings");
    json_object_del(host, "PublishAllPorts");
    json_object_del(host, "RestartPolicy");
    bind_unnamed(host, json_object_get(spec, "Unnamed"), m->volumes);
    for (size_t i = 1; argv[i]; i++)
        json_array_append_new(cmd, json_string(argv[i]));
    json_object_set_new(config, "Entrypoint", json_pack("[s]", argv[0]));
    json_object_set_new(config, "Cmd", cmd);
    json_object_set_new(config, "Healthcheck", json_pack("{s[s]}", "Test", "NONE"));
    json_object_set_new(config, "Labels",
                        json_pack("{ss ss}", DOCKER_LABEL_RUN, m->job, DOCKER_LABEL_OF, m->deployment));
    return body_of(spec, config, host, m->image, false);
}

json_t *docker_connect_body(const json_t *spec, const char *network, const char *container)
{
    return json_pack("{ss so}", "Container", container, "EndpointConfig", endpoint(spec, network));
}
