"""Octavia's data plane: HAProxy in this network and keepalived in a machine that has IPVS, with the
configuration that Octavia renders for its own machines, and packet rules for the sources that Neutron's
security groups let in. Addresses are those of VIP_SUBNET, all of which are local in both."""
import ipaddress
import os
import subprocess
import threading

from octavia.amphorae.drivers.noop_driver import driver as amphorae
from octavia.common import constants
from octavia.common.jinja.haproxy.combined_listeners import jinja_cfg
from octavia.common.jinja.lvs import jinja_cfg as lvs
from octavia.db import api as db
from octavia.db import models
from octavia.network import base
from octavia.network.drivers.noop_driver import driver as networks
from oslo_config import cfg

GOING = (constants.PENDING_DELETE, constants.DELETED)
lock = threading.Lock()
allocated = {}  # address -> ID of the load balancer
carried = {}  # ID of a load balancer -> ID of a listener of datagrams -> its configuration
guarded = {}  # ID of a load balancer -> the packet rules in the machine
with open('/srv/machine') as command:
    MACHINE = command.read().splitlines()  # runs a command there


def allocate(manager, lb):
    vip, more = noop_allocate(manager, lb)
    with lock:
        wanted = lb.vip.ip_address
        if not wanted:
            subnet = ipaddress.ip_network(os.environ['VIP_SUBNET'])
            # the upper half is given away, as an allocation pool of a subnet has it
            free = (str(a) for a in list(subnet)[subnet.num_addresses // 2:] if str(a) not in allocated)
            wanted = next(free, None)
            if not wanted:
                raise refused('No more IP addresses available on network %s.' % vip.network_id)
        elif allocated.get(wanted, lb.id) != lb.id:
            raise refused('IP address %s already allocated in subnet %s' % (wanted, vip.subnet_id))
        allocated[wanted] = lb.id
    vip.ip_address = wanted
    return vip, more


def refused(message):
    return base.AllocateVIPException(message, orig_msg=message)


def deallocate(manager, vip):
    stop(vip.load_balancer_id)
    with lock:
        allocated.pop(vip.ip_address, None)


def live(lb):
    return [l for l in lb.listeners if l.enabled and l.provisioning_status not in GOING]


def run(manager, lb):
    directory = '/var/lib/octavia/%s' % lb.id
    os.makedirs(directory, exist_ok=True)
    listeners, packets = [], []
    for l in live(lb):
        (packets if l.protocol == 'UDP' else listeners).append(l)
    with lock:
        datagrams(lb, packets if lb.enabled else [])
        guard(lb, listeners)
        if not listeners or not lb.enabled:
            end(lb.id)
            return
        haproxy = cfg.CONF.haproxy_amphora
        config = jinja_cfg.JinjaTemplater(
            base_amp_path=haproxy.base_path, base_crt_dir=haproxy.base_cert_dir,
            haproxy_template=haproxy.haproxy_template, connection_logging=False,
        ).build_config(host_amphora=lb.amphorae[0], listeners=listeners, tls_certs={None: None}, haproxy_versions=('2', '6'))
        # its machines have HAProxy's master, which hands its listeners over by itself
        config = config.replace(' level user\n', ' level user expose-fd listeners\n', 1)
        with open(directory + '/haproxy.cfg', 'w') as f:
            f.write(config)
        command = ['haproxy', '-D', '-f', directory + '/haproxy.cfg', '-p', directory + '/pid']
        if pids(lb.id):
            command += ['-x', socket(lb.id), '-sf'] + pids(lb.id)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)


def datagrams(lb, listeners):
    """Carry them as Octavia's machines do: by one keepalived for each listener, which is started anew when
    it changes."""
    want = {l.id: lvs.LvsJinjaTemplater().build_config(l).replace('net_namespace ' + constants.AMPHORA_NAMESPACE, '')
            for l in listeners}
    have = carried.setdefault(lb.id, {})
    closed = rules(lb.id, lb.vip.ip_address, listeners)
    if guarded.get(lb.id, closed if not want else '') != closed:
        machine('nft -f -', text=closed)
        guarded[lb.id] = closed
    for gone in set(have) - set(want):
        machine(END, gone)
        del have[gone]
    for id, config in want.items():
        if have.get(id) != config:
            have.pop(id, None)
            machine(END + CARRY, id, text=config)
            have[id] = config


END = """
cd /run/octavia
if [ -f $1.pid ]; then
  pid=$(cat $1.pid)
  kill $pid || true
  while kill -0 $pid 2>/dev/null; do sleep 0.01; done
  rm -f $1.*
fi
"""
CARRY = """
cat >$1.conf
keepalived -D -d -f /run/octavia/$1.conf -p /run/octavia/$1.pid -r /run/octavia/$1.vrrp -c /run/octavia/$1.check
"""


def machine(script, *args, text=''):
    """Run a script in the machine. The way there begins in the network of the cluster's first process."""
    command = ['nsenter', '-t', '1', '-n', '-m', '--'] + MACHINE + ['/bin/sh', '-euc', script, 'sh'] + list(args)
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError('%s: %s' % (script, done.stderr))


def guard(lb, listeners):
    subprocess.run(['nft', '-f', '-'], input=rules(lb.id, lb.vip.ip_address, listeners), check=True, text=True)


def rules(lb_id, address, listeners):
    """Let in who may come, as a security group does. It drops what others send: here they are told at once."""
    name = 'lb-' + lb_id
    out = ['table inet %s {}' % name, 'delete table inet %s' % name]
    if listeners:
        out += ['table inet %s { chain in { type filter hook input priority 0;' % name]
        for l in listeners:
            protocol, refusal = ('udp', '') if l.protocol == 'UDP' else ('tcp', ' with tcp reset')
            cidrs = [c.cidr for c in l.allowed_cidrs]
            if cidrs:
                out += ['ip daddr %s %s dport %d ip saddr != { %s } reject%s' % (
                    address, protocol, l.protocol_port, ', '.join(cidrs), refusal)]
        out += ['}', '}']
    return '\n'.join(out) + '\n'


def socket(lb_id):
    return '/var/lib/octavia/%s.sock' % lb_id


def pids(lb_id):
    try:
        with open('/var/lib/octavia/%s/pid' % lb_id) as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def end(lb_id):
    for pid in pids(lb_id):
        subprocess.run(['kill', '-TERM', pid])
    for name in 'pid', 'haproxy.cfg':
        try:
            os.remove('/var/lib/octavia/%s/%s' % (lb_id, name))
        except FileNotFoundError:
            pass


def stop(lb_id):
    with lock:
        end(lb_id)
        subprocess.run(['nft', '-f', '-'], input=rules(lb_id, '', []), check=True, text=True)
        for id in carried.pop(lb_id, {}):
            machine(END, id)
        if guarded.pop(lb_id, ''):
            machine('nft -f -', text=rules(lb_id, '', []))


def again(manager, listener):
    run(manager, listener.load_balancer)


noop_allocate = networks.NoopManager.allocate_vip
networks.NoopManager.allocate_vip = allocate
networks.NoopManager.deallocate_vip = deallocate
amphorae.NoopManager.update = run
amphorae.NoopManager.delete = again
