# Targets for everybody:     all demo test setup install uninstall clean
# Targets for who works here: unit netns soak lint fuzz bench coverage mutant reference
#
# Variants are built beside one another, each in a folder of its own:
#	make                  build/
#	make SAN=1            build/san/     AddressSanitizer and UndefinedBehaviorSanitizer
#	make VARIANT=clang    build/clang/   the other compiler
# and, by targets of their own, build/fuzz, build/cov and build/mutant.
SHELL := /bin/bash
VERSION := $(shell sed -n 's/^\#define ARRD_VERSION "\(.*\)"/\1/p' gateway/gateway.h)

# JOBS at a time; those that make calls inherit it.
JOBS ?= $(shell nproc)
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(JOBS)
endif

# What runs is said in a word; V=1 shows the command.
V ?= 0
say = $(if $(filter 0,$(V)),@echo "  $(1) $@"; $(2),$(2))

SAN ?= 0
VARIANT ?= $(if $(filter 1,$(SAN)),san)
B := build$(if $(VARIANT),/$(VARIANT))
PREFIX ?= /usr
SYSCONFDIR ?= /etc
DESTDIR ?=

ifneq ($(filter clang fuzz,$(VARIANT)),)
CC := clang
endif
ifeq ($(origin CC),default)
CC := gcc
endif

LIBS_PC := libuv libsodium libnftables libmnl libnetfilter_conntrack jansson libsystemd libcrypto
# Asked for only when something is built, so that `make setup` works on a bare machine.
PC_CFLAGS = $(shell pkg-config --cflags $(LIBS_PC))
PC_LIBS = $(shell pkg-config --libs $(LIBS_PC)) -linih $(MB_LIBS) $(SWAN_LIBS) -lpthread

# The fast provider of ESP's ciphers is there on x86-64 only.
ifeq ($(shell uname -m),x86_64)
MB_CFLAGS := -DHAVE_IPSEC_MB
MB_LIBS := -lIPSec_MB
endif

# strongSwan: Debian ships the libraries, but not their headers; test/strongswan-headers gets these. The macros are those
# of Debian's build where they change what the headers say; without ME (mediation) structures are laid out wrongly. Its
# functions take strings that they do not change as char *, and its methods have parameters that not every one needs.
SWAN := build/strongswan
SWAN_CFLAGS := $(addprefix -isystem $(SWAN),/. /src/libstrongswan /src/libcharon) -DCONFIG_H_INCLUDED -DME \
	$(addprefix -DHAVE_,STDBOOL_H ALLOCA_H INT128 GCC_ATOMIC_OPERATIONS SIGWAITINFO CLOSEFROM EXPLICIT_BZERO FMEMOPEN \
	MEMRCHR) -Wno-write-strings -Wno-unused-parameter
SWAN_LIBS := -L/usr/lib/ipsec -Wl,-rpath,/usr/lib/ipsec -Wl,--push-state,--as-needed -lcharon -lstrongswan -Wl,--pop-state

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wimplicit-fallthrough -Wno-missing-field-initializers \
	$(if $(filter clang%,$(CC)),,-Wcast-align=strict)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE \
	$(if $(filter x86_64,$(shell uname -m)),-fcf-protection)
FORTIFY := -D_FORTIFY_SOURCE=2
OPT := -O2 -g
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# What a variant adds, to compiling and to linking.
flags_san := $(SANITIZE)
flags_fuzz := $(SANITIZE) -fsanitize=fuzzer-no-link
flags_cov := --coverage
flags_mutant := -DMUTATE_SWAP_ATTACHMENTS
VFLAGS := $(flags_$(VARIANT))
# A fortified libc hides accesses from the sanitizers; a coverage build wants lines as they are written.
ifneq ($(filter san fuzz cov,$(VARIANT)),)
FORTIFY :=
endif
ifeq ($(VARIANT),cov)
OPT := -O0 -g
endif

CFLAGS_ALL = -std=c17 -D_GNU_SOURCE -I. $(WARN) $(HARDEN) $(OPT) $(FORTIFY) $(VFLAGS) $(PC_CFLAGS) $(MORE_CFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now $(VFLAGS) $(LDFLAGS)

rooms := gateway/base gre ipsec flowstate gateway
arrctl_src := $(wildcard gateway/arrctl*.c)
mains := gateway/main.c $(arrctl_src)
src = $(filter-out $(mains),$(wildcard $(1)/*.c))
ar = $(B)/$(subst /,-,$(1)).a
# order of linking: from the top down
link_gateway := $(foreach r,gateway gre ipsec flowstate gateway/base,$(call ar,$(r)))

all: $(B)/arrd $(B)/arrctl

define room
$(call ar,$(1)): $(patsubst %.c,$(B)/%.o,$(call src,$(1)))
	$$(call say,AR   ,rm -f $$@; ar rcs $$@ $$^)
endef
$(foreach r,$(rooms),$(eval $(call room,$(r))))

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC   ,$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<)

swan_obj := $(patsubst %.c,$(B)/%.o,$(wildcard ipsec/ike*.c))
$(swan_obj): private MORE_CFLAGS = $(SWAN_CFLAGS)
$(swan_obj): $(SWAN)/.unpacked
$(SWAN)/.unpacked: $(wildcard /var/lib/dpkg/info/libstrongswan.list)
	test/strongswan-headers $(SWAN)
$(patsubst %,$(B)/ipsec/%.o,crypto crypto_mb): private MORE_CFLAGS = $(MB_CFLAGS)

$(B)/arrd: $(B)/gateway/main.o $(link_gateway)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS))
$(B)/arrctl: $(patsubst %.c,$(B)/%.o,$(arrctl_src)) $(call ar,gateway/base)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS))

# ---- tests ---------------------------------------------------------------------------------------------

# Unit tests: test/unit/ROOM_WHAT_test.c links ROOM and what lies below it.
unit_src := $(wildcard test/unit/*_test.c)
unit_bin := $(patsubst test/unit/%.c,$(B)/unit/%,$(unit_src))
links_base := $(call ar,gateway/base)
links_gre := $(call ar,gre) $(links_base)
links_ipsec := $(call ar,ipsec) $(links_base)
links_flowstate := $(call ar,flowstate) $(links_base)
links_gateway := $(link_gateway)
.SECONDEXPANSION:
$(unit_bin): $(B)/unit/%: $(B)/test/unit/%.o $$(links_$$(firstword $$(subst _, ,$$*)))
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS) -lcmocka)

# Each step is a make of its own: they must not run at the same time. The second runs when the first failed, too.
test:
	@test/setup build test
	@status=0; $(MAKE) --no-print-directory unit || status=1; \
	$(MAKE) --no-print-directory netns || status=1; exit $$status

test-build: $(unit_bin) tools
unit: $(unit_bin)
	@test/run-unit $(unit_bin)

# The programs that the namespace tests use as branches, servers and witnesses: those of test/tools with a main().
tools_main := $(shell grep -l '^int main' test/tools/*.c)
tools_bin := $(patsubst test/tools/%.c,$(B)/tools/%,$(tools_main))
$(B)/tools.a: $(patsubst %.c,$(B)/%.o,$(filter-out $(tools_main),$(wildcard test/tools/*.c)))
	$(call say,AR   ,rm -f $@; ar rcs $@ $^)
$(tools_bin): $(B)/tools/%: $(B)/test/tools/%.o $(B)/tools.a
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LDLIBS) -lpthread)
# These are made of parts of the gateway.
$(B)/tools/egress_probe: $(link_gateway)
$(B)/tools/egress_probe: private LDLIBS = $(PC_LIBS)
$(B)/tools/flowverdict: $(links_flowstate)
$(B)/tools/flowverdict: private LDLIBS = $(shell pkg-config --libs libsodium)
tools: $(tools_bin)

# Namespace tests, with the tools, and the mutant for the case that must find it out. CASES: patterns of names.
netns:
	@test/setup build test
	@$(MAKE) --no-print-directory all tools
	@$(MAKE) --no-print-directory mutant
	@test/netns/run --build $(B) $(foreach c,$(CASES),-k '$(c)')

# The cases that take minutes each; netns leaves them out, and says so. And kills of the flow table, twenty times as many.
soak:
	@test/setup build test
	@$(MAKE) --no-print-directory all tools $(B)/unit/flowstate_kill_test
	@ARRD_KILLS=20000 test/run-unit $(B)/unit/flowstate_kill_test
	@test/netns/run --build $(B) --soak $(foreach c,$(CASES),-k '$(c)')

# The TCP corpus anew, by this kernel's stacks; then look at what test/netns/case_reference.py says of it.
reference:
	@test/setup test
	test/reference/record.py

demo:
	@test/setup build test
	@$(MAKE) --no-print-directory -s all tools
	@test/demo.py --build $(B)

# The build that sends replies to the wrong tunnel: the test that counts misdelivered packets must find it out.
mutant:
	@$(MAKE) --no-print-directory VARIANT=mutant all

# Fuzz targets: test/fuzz/fuzz_NAME.c, each for FUZZ_SECONDS.
FUZZ_SECONDS ?= 60
fuzz_src := $(wildcard test/fuzz/fuzz_*.c)
fuzz_bin := $(patsubst test/fuzz/%.c,$(B)/%,$(fuzz_src))
$(fuzz_bin): $(B)/%: $(B)/test/fuzz/%.o $(link_gateway)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(PC_LIBS))
fuzz-build: $(fuzz_bin)
fuzz:
	@test/setup build dev
	@$(MAKE) --no-print-directory VARIANT=fuzz fuzz-build
	@test/run-fuzz $(FUZZ_SECONDS) $(patsubst test/fuzz/%.c,build/fuzz/%,$(fuzz_src))

# Line coverage by the unit tests, a line a room.
coverage:
	@test/setup build test
	@find build/cov -name '*.gcda' -delete 2>/dev/null || true
	@status=0; $(MAKE) --no-print-directory VARIANT=cov unit || status=1; \
	test/coverage build/cov $(rooms) || status=1; exit $$status

# ---- lint ----------------------------------------------------------------------------------------------

lint:
	@test/setup
	+@test/lint

# clang-tidy, a stamp a file: what did not change is not looked at again. The object is there for its
# dependencies: it is as old as the newest header.
c_src := $(sort $(wildcard gateway/base/*.c gateway/*.c gre/*.c ipsec/*.c flowstate/*.c test/*/*.c))
c_hdr := $(sort $(wildcard gateway/base/*.h gateway/*.h gre/*.h ipsec/*.h flowstate/*.h test/*/*.h))
TIDY := clang-tidy --quiet --warnings-as-errors='*'
build/tidy/%.ok: %.c $$(if $$(wildcard build/$$*.d),build/$$*.o) .clang-tidy test/unit/.clang-tidy
	@mkdir -p $(@D)
	@$(TIDY) $< -- -std=c17 -D_GNU_SOURCE -I. $(PC_CFLAGS) $(tidy_more) 2>$@.err || { cat $@.err; exit 1; }
	@touch $@
build/tidy/test/bench/branch.ok: tidy_more = $(BPF_CFLAGS)
build/tidy/test/bench/flowtable.ok: tidy_more = $(DPDK_CFLAGS)
$(patsubst %.c,build/tidy/%.ok,$(wildcard ipsec/ike*.c)): tidy_more = $(SWAN_CFLAGS)
$(patsubst %,build/tidy/ipsec/%.ok,crypto crypto_mb): tidy_more = $(MB_CFLAGS)
tidy: $(c_src:%.c=build/tidy/%.ok)
print-c_src:
	@echo $(c_src)
print-c_hdr:
	@echo $(c_hdr)

# ---- benchmarks ----------------------------------------------------------------------------------------

# BENCH: one group or several, all of them without it. Each writes build/bench/GROUP.json.
bench:
	@test/setup
	@$(MAKE) --no-print-directory all bench-build
	@test/bench/run $(BENCH)
bench-build: $(addprefix $(B)/bench/,pktrate latency conns branch.o flowtable flowlife espbench events)
$(B)/bench/pktrate $(B)/bench/latency: $(B)/tools.a
$(B)/bench/pktrate $(B)/bench/latency $(B)/bench/conns: $(B)/bench/%: $(B)/test/bench/%.o
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ -lpthread)

# Programs for the kernel, which has its own way to find a header's architecture.
BPF_CFLAGS := -target bpf -I/usr/include/$(shell uname -m)-linux-gnu
$(B)/bench/branch.o: test/bench/branch.c
	@mkdir -p $(@D)
	$(call say,BPF  ,clang -O2 -g $(BPF_CFLAGS) -c -o $@ $<)

$(B)/bench/espbench: $(B)/test/bench/espbench.o $(links_ipsec)
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS))

$(B)/bench/events: $(B)/test/bench/events.o $(links_gateway)
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS))

$(B)/bench/flowlife: $(B)/test/bench/flowlife.o $(links_flowstate)
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS))

# The flow table's peer. DPDK's headers are the system's: our warnings are not for them.
DPDK_CFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags libdpdk))
$(B)/test/bench/flowtable.o: private CFLAGS += $(DPDK_CFLAGS)
$(B)/bench/flowtable: $(B)/test/bench/flowtable.o $(links_flowstate)
	@mkdir -p $(@D)
	$(call say,LINK ,$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PC_LIBS) -lrte_hash -lrte_eal)

# ---- installing ----------------------------------------------------------------------------------------

D := $(DESTDIR)$(PREFIX)
E := $(DESTDIR)$(SYSCONFDIR)
unitdir := $(D)/lib/systemd/system
install: all
	install -d $(D)/sbin $(D)/bin $(D)/share/man/man5 $(D)/share/man/man8 $(E)/arrd/tunnels.d
	install -m 755 $(B)/arrd $(D)/sbin/arrd
	install -m 755 $(B)/arrctl $(D)/bin/arrctl
	install -m 644 $(wildcard doc/*.5) $(D)/share/man/man5/
	install -m 644 $(wildcard doc/*.8) $(D)/share/man/man8/
	install -D -m 644 -t $(unitdir) etc/arrd.service etc/arrd-egress.service
	install -D -m 644 etc/sysctl.conf $(D)/lib/sysctl.d/50-arrd.conf
	install -D -m 644 etc/sysusers.conf $(D)/lib/sysusers.d/arrd.conf
	install -D -m 644 etc/tmpfiles.conf $(D)/lib/tmpfiles.d/arrd.conf
	install -D -m 644 etc/bash-completion $(D)/share/bash-completion/completions/arrctl
	install -D -m 644 -t $(D)/share/doc/arrd README.md CHANGELOG.md LICENSE doc/architecture.md doc/control-protocol.md
	[ -e $(E)/arrd/arrd.conf ] || install -m 644 etc/arrd.conf $(E)/arrd/arrd.conf
	install -D -m 644 -t $(D)/share/doc/arrd/tunnels.d $(wildcard etc/tunnels.d/*)

# Leaves what somebody may have written: /etc/arrd.
uninstall:
	rm -f $(D)/sbin/arrd $(D)/bin/arrctl $(patsubst doc/%,$(D)/share/man/man5/%,$(wildcard doc/*.5)) \
		$(patsubst doc/%,$(D)/share/man/man8/%,$(wildcard doc/*.8)) \
		$(unitdir)/arrd.service $(unitdir)/arrd-egress.service $(D)/lib/sysctl.d/50-arrd.conf \
		$(D)/lib/sysusers.d/arrd.conf $(D)/lib/tmpfiles.d/arrd.conf $(D)/share/bash-completion/completions/arrctl
	rm -rf $(D)/share/doc/arrd

setup:
	test/setup
	test/strongswan-headers $(SWAN)
	chown -R --reference=Makefile build
clean:
	rm -rf build

-include $(patsubst %.c,$(B)/%.d,$(c_src))
.PHONY: all test unit netns soak tools mutant bench-build fuzz fuzz-build test-build coverage lint tidy bench reference \
	demo setup install uninstall clean print-c_src print-c_hdr
.SECONDARY:
