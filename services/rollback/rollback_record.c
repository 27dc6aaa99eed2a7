/* rollback_record.c - how versions are made again: their records, on the stream and in memory.
 *
 * A record is put on the stream before the version is in the document, so that what can be gone back to can be made. In memory are only those
 * that were seen running or asked for, of versions that the document knows: the others are read from the stream when they are needed. */
#include "common/clock.h"
#include "common/log.h"
#include "rollback/rollback_shell.h"
#include <stdlib.h>
#include <string.h>

static const char *const executor_names[] = {
    [SET_EXECUTOR_DOCKER] = "docker", [SET_EXECUTOR_KUBERNETES] = "kubernetes", [SET_EXECUTOR_EXEC] = "exec"};

const struct version_record *record_known(const struct deployment *d, const char *id)
{
    for (const struct version_record *r = d->records_known; r; r = r->next)
        if (strcmp(r->id, id) == 0)
            return r;
    return NULL;
}

static void record_free(struct version_record *r)
{
    free(r->spec);
    free(r);
}

static bool add(struct deployment *d, const char *id, const char *name, const char *digest, const char *image,
                const void *spec, size_t len)
{
    if (record_known(d, id))
        return true; /* it never changes */
    struct version_record *r = calloc(1, sizeof *r);
    if (r)
        r->spec = malloc(len + 1);
    if (!r || !r->spec) {
        free(r);
        return false;
    }
    memcpy(r->spec, spec, len);
    r->spec[len] = '\0';
    r->spec_len = len;
    snprintf(r->id, sizeof r->id, "%s", id);
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(r->digest, sizeof r->digest, "%s", digest);
    snprintf(r->image, sizeof r->image, "%s", image);
    r->next = d->records_known;
    d->records_known = r;
    return true;
}

void record_from_view(struct deployment *d, const struct executor_version *v)
{
    if (v->spec && v->spec_len > 0)
        add(d, v->v.id, v->v.name, v->v.digest, v->image, v->spec, v->spec_len);
}

bool record_take(struct deployment *d, const void *data, size_t len, const char *id, struct err *e)
{
    PB(VersionRecord) *m = wire_unpack(PB_DESC(version_record), data, len, e);
    bool good = false;
    if (!m)
        return false;
    if (strcmp(m->deployment, d->name) != 0 || strcmp(m->version->id, id) != 0)
        err_set(e, "the record on the stream is of %s of %s", m->version->id, m->deployment);
    else if (strcmp(m->executor, executor_names[d->set->executor]) != 0)
        err_set(e, "its record was made by executor %s, and the settings say %s", m->executor,
                executor_names[d->set->executor]);
    else if (m->spec.len == 0)
        err_set(e, "its record has no spec");
    else if (!(good = add(d, id, m->version->name, m->version->digest, m->image, m->spec.data, m->spec.len)))
        err_set(e, "out of memory");
    wire_free(m);
    return good;
}

void record_say(struct deployment *d, const struct executor_version *v, bus_stored_cb cb, void *ctx)
{
    char subject[SUBJECT_MAX_LEN], id[SUBJECT_MAX_LEN];
    const char *gaps[9];
    char too_large[128];
    const struct rollback_version *known = rollback_doc_version(d->doc, v->v.id);
    PB(DeployedVersion) dv = PB_INIT(DEPLOYED_VERSION);
    dv.id = (char *)v->v.id;
    dv.name = (char *)v->v.name;
    dv.digest = (char *)v->v.digest;
    dv.config_hash = (char *)v->v.config_hash;
    dv.data_schema = v->v.data_schema;
    dv.state = REDOUBT__V1__VERSION_STATE__VERSION_STATE_RECORDED; /* how it fares is the document's to say */
    dv.recorded_unix_ms = known ? known->recorded_ms : clock_shared_ms();
    dv.gaps = v->n_gaps > 0;
    PB(VersionRecord) m = PB_INIT(VERSION_RECORD);
    m.deployment = d->name;
    m.version = &dv;
    m.executor = (char *)executor_names[d->set->executor];
    m.image = (char *)v->image;
    m.spec = (ProtobufCBinaryData){.data = (uint8_t *)v->spec, .len = v->spec_len};
    for (size_t i = 0; i < v->n_gaps && i < sizeof v->gap / sizeof v->gap[0]; i++)
        gaps[m.n_gaps++] = v->gap[i];
    if (v->spec_len > RECORD_SPEC_MAX) {
        snprintf(too_large, sizeof too_large, "its spec has %zu bytes; at most %d can be recorded", v->spec_len,
                 RECORD_SPEC_MAX);
        gaps[m.n_gaps++] = too_large;
        m.spec.len = 0;
        dv.gaps = true;
    }
    m.gaps = (char **)gaps;
    snprintf(subject, sizeof subject, "%s%s.%s", SUBJECT_VERSION, d->name, v->v.id);
    snprintf(id, sizeof id, "version/%s/%s", d->name, v->v.id);
    service_announce(d->room->s, subject, id, &m, cb, ctx);
}

void records_prune(struct deployment *d)
{
    for (struct version_record **at = &d->records_known; *at;) {
        struct version_record *r = *at;
        if (rollback_doc_version(d->doc, r->id)) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        record_free(r);
    }
}

void records_free(struct deployment *d)
{
    while (d->records_known) {
        struct version_record *r = d->records_known;
        d->records_known = r->next;
        record_free(r);
    }
}
