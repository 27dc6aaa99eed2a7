/* wire.c - protobuf in and out: a look at the raw bytes, a bounded unpack, then the contract's rules. */
#include "common/wire.h"
#include "common/subjects.h"
#include "common/wire_rules.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- the raw bytes ----
 *
 * protobuf-c accepts what the contract refuses and what nobody could see afterwards: NUL inside strings (the C string just
 * ends there), a field given twice (the last one wins, or sub-messages are merged). So the bytes are walked once along the
 * descriptor before anything is allocated. The contract has no recursive types, so the walk is as deep as the contract. */

struct cursor {
    const unsigned char *at, *end;
};

static bool read_varint(struct cursor *c, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (c->at == c->end)
            return false;
        unsigned char b = *c->at++;
        if (shift == 63 && b > 1)
            return false;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *ret = v;
            return true;
        }
    }
    return false;
}

static unsigned wire_type_of(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    default:
        return PROTOBUF_C_WIRE_TYPE_VARINT;
    }
}

static int scan(const ProtobufCMessageDescriptor *desc, struct cursor c, struct err *e)
{
    uint64_t seen = 0; /* by index of field; more than 64 are not watched */
    while (c.at < c.end) {
        uint64_t tag, v;
        if (!read_varint(&c, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
            return err_set(e, "%s: malformed: bad field tag", desc->short_name);
        unsigned type = tag & 7;
        size_t len = 0;
        if (type == PROTOBUF_C_WIRE_TYPE_VARINT) {
            if (!read_varint(&c, &v))
                return err_set(e, "%s: malformed: bad number in field %u", desc->short_name, (unsigned)(tag >> 3));
        } else if (type == PROTOBUF_C_WIRE_TYPE_64BIT) {
            len = 8;
        } else if (type == PROTOBUF_C_WIRE_TYPE_32BIT) {
            len = 4;
        } else if (type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
            return err_set(e, "%s: malformed: wire type %u in field %u", desc->short_name, type,
                           (unsigned)(tag >> 3));
        } else {
            if (!read_varint(&c, &v))
                return err_set(e, "%s: malformed: bad length of field %u", desc->short_name, (unsigned)(tag >> 3));
            len = v > SIZE_MAX ? SIZE_MAX : (size_t)v;
        }
        if (len > (size_t)(c.end - c.at))
            return err_set(e, "%s: malformed: field %u is cut off", desc->short_name, (unsigned)(tag >> 3));
        struct cursor inside = {c.at, c.at + len};
        c.at += len;

        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(desc, (unsigned)(tag >> 3));
        if (!f)
            continue; /* a newer sender's field */
        bool list = f->label == PROTOBUF_C_LABEL_REPEATED;
        bool packed = list && type == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED &&
                      wire_type_of(f->type) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
        if (type != wire_type_of(f->type) && !packed)
            return err_set(e, "%s.%s: malformed: wire type %u", desc->short_name, f->name, type);
        size_t index = (size_t)(f - desc->fields);
        if (!list && index < 64) {
            if (seen & (UINT64_C(1) << index))
                return err_set(e, "%s.%s: given twice", desc->short_name, f->name);
            seen |= UINT64_C(1) << index;
        }
        if (f->type == PROTOBUF_C_TYPE_STRING && len > 0 && memchr(inside.at, 0, len))
            return err_set(e, "%s.%s: holds NUL", desc->short_name, f->name);
        if (f->type == PROTOBUF_C_TYPE_MESSAGE && scan(f->descriptor, inside, e))
            return -1;
    }
    return 0;
}

/* ---- unpacking ---- */

struct budget {
    size_t left;
};

/* Counts what was ever asked for, not what is held: free() is not told a size, and the bound need not be tight. */
static void *budget_alloc(void *data, size_t size)
{
    struct budget *b = data;
    if (size > b->left)
        return NULL;
    b->left -= size;
    return malloc(size);
}

static void budget_free(void *data, void *p)
{
    (void)data;
    free(p);
}

void *wire_unpack(const ProtobufCMessageDescriptor *desc, const void *data, size_t len, struct err *e)
{
    if (len == 0) {
        err_set(e, "%s: the message is empty", desc->short_name);
        return NULL;
    }
    if (len > MESSAGE_MAX) {
        err_set(e, "%s: %zu bytes; allowed: at most %d", desc->short_name, len, MESSAGE_MAX);
        return NULL;
    }
    const unsigned char *bytes = data;
    if (scan(desc, (struct cursor){bytes, bytes + len}, e))
        return NULL;
    struct budget b = {WIRE_ALLOC_MAX};
    ProtobufCAllocator a = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &b};
    ProtobufCMessage *m = protobuf_c_message_unpack(desc, &a, len, bytes);
    if (!m) {
        err_set(e, "%s: malformed, or needs more than %d bytes of memory", desc->short_name, WIRE_ALLOC_MAX);
        return NULL;
    }
    if (wire_check(m, e)) {
        wire_free(m);
        return NULL;
    }
    return m;
}

void wire_free(void *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

/* ---- packing ---- */

void *wire_pack(const void *message, size_t *ret_len, struct err *e)
{
    if (wire_check(message, e))
        return NULL;
    const ProtobufCMessage *m = message;
    size_t len = protobuf_c_message_get_packed_size(m);
    if (len == 0 || len > MESSAGE_MAX) {
        err_set(e, "%s: packs to %zu bytes; allowed: 1 to %d", m->descriptor->short_name, len, MESSAGE_MAX);
        return NULL;
    }
    void *buf = malloc(len);
    if (!buf) {
        err_set(e, "%s: no memory for %zu bytes", m->descriptor->short_name, len);
        return NULL;
    }
    *ret_len = protobuf_c_message_pack(m, buf);
    return buf;
}

/* ---- names ---- */

const char *wire_type(const void *message)
{
    return ((const ProtobufCMessage *)message)->descriptor->name;
}

const ProtobufCMessageDescriptor *wire_by_name(const char *full_name)
{
    for (size_t i = 0; i < wire_rules_n; i++)
        if (strcmp(wire_rules[i].desc->name, full_name) == 0)
            return wire_rules[i].desc;
    return NULL;
}

const ProtobufCMessageDescriptor *wire_by_subject(const char *subject)
{
    /* Longer prefixes first. A report may be a batch as well: its ce-type says so. */
    static const struct {
        const char *prefix;
        const ProtobufCMessageDescriptor *desc;
    } rows[] = {
        {SUBJECT_REPORT, PB_DESC(outcome_report)},
        {SUBJECT_HEARTBEAT, PB_DESC(heartbeat)},
        {SUBJECT_HEALTH, PB_DESC(health_changed)},
        {SUBJECT_BREAKER, PB_DESC(breaker_changed)},
        {SUBJECT_DIRECTIVE, PB_DESC(directive)},
        {SUBJECT_ACK, PB_DESC(directive_ack)},
        {SUBJECT_ACTION, PB_DESC(action_request)},
        {SUBJECT_DELIVERY, PB_DESC(delivery_receipt)},
        {SUBJECT_ROLLBACK, PB_DESC(rollback_changed)},
        {SUBJECT_VERSION, PB_DESC(version_record)},
        {SUBJECT_SHARE, PB_DESC(work_share)},
        {SUBJECT_SHARED, PB_DESC(work_shared)},
        {SUBJECT_INCIDENT, PB_DESC(incident_changed)},
        {SUBJECT_CONTINUITY_INCIDENT, PB_DESC(incident_changed)},
        {SUBJECT_CONTINUITY_AGENT, PB_DESC(availability_state)},
        {SUBJECT_CONTINUITY_BACKUP, PB_DESC(backup_state)},
        {SUBJECT_CONTINUITY_DRILL, PB_DESC(drill_state)},
        {SUBJECT_CONTINUITY_DEMONSTRATED, PB_DESC(demonstrations)},
        {SUBJECT_CONTINUITY_TIME, PB_DESC(continuity_time)},
        {SUBJECT_CONTINUITY_STATUS, PB_DESC(continuity_status)},
        {SUBJECT_CONTINUITY_CONFIG, PB_DESC(config_state)},
        {SUBJECT_AUDIT, PB_DESC(audit_record)},
        {SUBJECT_CMD "breaker.allow", PB_DESC(allow_request)},
        {SUBJECT_CMD "breaker.", PB_DESC(breaker_command)},
        {SUBJECT_CMD "health.", PB_DESC(health_command)},
        {SUBJECT_CMD "fallback.", PB_DESC(agent_command)},
        {SUBJECT_CMD "guard.", PB_DESC(guard_command)},
        {SUBJECT_CMD "rollback.", PB_DESC(rollback_command)},
        {SUBJECT_CMD "continuity.", PB_DESC(continuity_command)},
        {SUBJECT_CMD "alert.", PB_DESC(alert_command)},
        {SUBJECT_CMD "audit.read", PB_DESC(audit_read)},
        {SUBJECT_CMD "audit.rotate", PB_DESC(audit_command)},
        {SUBJECT_QUEUE, PB_DESC(queued_action)},
        {SUBJECT_PARCEL, PB_DESC(alert)},
        {SUBJECT_PROBLEM, PB_DESC(problem_changed)},
        {SUBJECT_SILENCE, PB_DESC(silence)},
        {SUBJECT_PULSE, PB_DESC(pulse)},
        {SUBJECT_CHECKPOINT, PB_DESC(audit_checkpoint)},
        {SUBJECT_MONITOR, PB_DESC(monitor_report)},
        {SUBJECT_FENCE, PB_DESC(fence)},
        {SUBJECT_FENCED, PB_DESC(fenced)},
        {SUBJECT_DEAD, PB_DESC(dead_letter)},
        {SUBJECT_OBSERVATION, PB_DESC(observation)},
        {SUBJECT_TRAFFIC, PB_DESC(traffic_summary)},
        {SUBJECT_ADVICE, PB_DESC(breaker_advice)},
        {SUBJECT_DECISION, PB_DESC(decision)},
        {SUBJECT_SELFTEST, PB_DESC(selftest_question)},
    };
    if (strcmp(subject, SUBJECT_ALERT) == 0)
        return PB_DESC(alert);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = strlen(rows[i].prefix);
        bool whole = rows[i].prefix[n - 1] != '.';
        if (whole ? strcmp(subject, rows[i].prefix) == 0 : subject_tail(subject, rows[i].prefix) != NULL)
            return rows[i].desc;
    }
    return NULL;
}

const char *wire_enum_name(const ProtobufCEnumDescriptor *desc, int value)
{
    /* Every enumeration has PREFIX_UNSPECIFIED = 0, which tells how long the prefix is. */
    static const char zero_suffix[] = "UNSPECIFIED";
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(desc, value);
    const ProtobufCEnumValue *zero = protobuf_c_enum_descriptor_get_value(desc, 0);
    if (!v || !zero)
        return "?";
    size_t prefix = strlen(zero->name) - (sizeof zero_suffix - 1);
    return v->name + prefix;
}
