/* main.c - redoubt-breaker: shared circuit breakers. */
#include "breaker/breaker_shell.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &breaker_service);
}
