# Targets: setup all demo test unit netns lint fuzz bench install clean. SAN=1 builds with sanitizers, under build/san.
SHELL := /bin/bash
VERSION := $(shell sed -n 's/^\#define ARRD_VERSION "\(.*\)"/\1/p' gateway/gateway.h)

CC ?= gcc
SAN ?= 0
B := build$(if $(filter 1,$(SAN)),/san)
PREFIX ?= /usr
SYSCONFDIR ?= /etc
DESTDIR ?=

LIBS_PC := libuv libsodium libnftables libmnl libnetfilter_conntrack jansson libsystemd
# Asked for only when something is built, so that `make setup` works on a bare machine.
PC_CFLAGS = $(shell pkg-config --cflags $(LIBS_PC))
PC_LIBS = $(shell pkg-config --libs $(LIBS_PC)) -linih

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wcast-align=strict -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wimplicit-fallthrough \
	-Wno-missing-field-initializers
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE
OPT := -O2 -g $(if $(filter 0,$(SAN)),-D_FORTIFY_SOURCE=2)
ifeq ($(SAN),1)
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
CFLAGS_ALL = -std=c17 -D_GNU_SOURCE -I. $(WARN) $(HARDEN) $(OPT) $(SANFLAGS) $(PC_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(SANFLAGS) $(LDFLAGS)

rooms := gateway/base gre flowstate gateway
mains := gateway/main.c gateway/arrctl.c
src = $(filter-out $(mains),$(wildcard $(1)/*.c))
ar = $(B)/$(subst /,-,$(1)).a
archives := $(foreach r,$(rooms),$(call ar,$(r)))
# order of linking: from the top down
link_gateway := $(foreach r,gateway gre flowstate gateway/base,$(call ar,$(r)))

all: $(B)/arrd $(B)/arrctl

define room
$(call ar,$(1)): $(patsubst %.c,$(B)/%.o,$(call src,$(1)))
	rm -f $$@; ar rcs $$@ $$^
endef
$(foreach r,$(rooms),$(eval $(call room,$(r))))

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/arrd: $(B)/gateway/main.o $(link_gateway)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS)
$(B)/arrctl: $(B)/gateway/arrctl.o $(call ar,gateway/base)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS)

# Unit tests: test/unit/ROOM_WHAT_test.c links ROOM and what lies below it.
unit_src := $(wildcard test/unit/*_test.c)
unit_bin := $(patsubst test/unit/%.c,$(B)/unit/%,$(unit_src))
links_base := $(call ar,gateway/base)
links_gre := $(call ar,gre) $(links_base)
links_flowstate := $(call ar,flowstate) $(links_base)
links_gateway := $(link_gateway)
.SECONDEXPANSION:
$(unit_bin): $(B)/unit/%: $(B)/test/unit/%.o $$(links_$$(firstword $$(subst _, ,$$*)))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS) -lcmocka

unit: $(unit_bin)
	test/run-unit $(unit_bin)

clean:
	rm -rf build

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all unit clean
.SECONDARY:
