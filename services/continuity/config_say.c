/* config_say.c - answers to commands about the configuration. */
#include "common/log.h"
#include "continuity/config_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void config_answer(struct config_room *r, const char *reply, int status, const void *payload, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    PB(CommandReply) m = PB_INIT(COMMAND_REPLY);
    struct err e = {""};
    size_t len = 0;
    void *data = payload ? wire_pack(payload, &len, &e) : NULL;
    if (payload && !data)
        log_error("own answer is not valid", F_STR("type", wire_type(payload)), F_STR("why", e.text));
    m.status = (Redoubt__V1__CommandStatus)status;
    m.message = text;
    m.payload = (ProtobufCBinaryData){.data = data, .len = len};
    service_reply_message(continuity_service_of(r->c), reply, &m);
    free(data);
}
