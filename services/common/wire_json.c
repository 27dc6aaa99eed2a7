/* wire_json.c - a message as JSON for people and scripts. */
#include "common/wire.h"
#include "common/wire_rules.h"
#include <jansson.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *bytes_json(const ProtobufCBinaryData *b)
{
    size_t room = sodium_base64_encoded_len(b->len, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(room);
    if (!text)
        return NULL;
    sodium_bin2base64(text, room, b->data, b->len, sodium_base64_VARIANT_ORIGINAL);
    json_t *j = json_string(text);
    free(text);
    return j;
}

static json_t *unsigned_json(uint64_t v)
{
    if (v <= INT64_MAX)
        return json_integer((json_int_t)v);
    char text[24]; /* jansson's integers end there */
    snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    return json_string(text);
}

static json_t *message_json(const ProtobufCMessage *m);

static json_t *value_json(const void *at, const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(char *const *)at;
        return json_string(s ? s : "");
    }
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_json(at);
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)at;
        return m ? message_json(m) : json_null();
    }
    case PROTOBUF_C_TYPE_ENUM: {
        int v = *(const int *)at;
        return protobuf_c_enum_descriptor_get_value(f->descriptor, v) ? json_string(wire_enum_name(f->descriptor, v))
                                                                      : json_integer(v);
    }
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return json_integer(*(const int64_t *)at);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return unsigned_json(*(const uint64_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    default:
        return json_integer(*(const int32_t *)at);
    }
}

static json_t *list_json(const char *base, const ProtobufCFieldDescriptor *f)
{
    size_t n = *(const size_t *)(base + f->quantifier_offset);
    const char *items = *(const char *const *)(base + f->offset);
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        if (json_array_append_new(list, value_json(items + i * wire_item_size(f->type), f))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* lowerCamelCase, as the proto3 JSON mapping names fields. */
static const char *json_name(const char *field, char *buf, size_t room)
{
    size_t n = 0;
    bool up = false;
    for (; *field && n + 1 < room; field++) {
        if (*field == '_') {
            up = true;
            continue;
        }
        buf[n++] = (char)(up && *field >= 'a' && *field <= 'z' ? *field - 'a' + 'A' : *field);
        up = false;
    }
    buf[n] = 0;
    return buf;
}

static json_t *message_json(const ProtobufCMessage *m)
{
    const char *base = (const char *)m;
    json_t *o = json_object();
    for (unsigned i = 0; o && i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        char name[128];
        if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && *(const uint32_t *)(base + f->quantifier_offset) != f->id)
            continue; /* the union holds another member */
        json_t *v = f->label == PROTOBUF_C_LABEL_REPEATED ? list_json(base, f) : value_json(base + f->offset, f);
        if (json_object_set_new(o, json_name(f->name, name, sizeof name), v)) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

char *wire_json(const void *message)
{
    json_t *j = message_json(message);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return text;
}
