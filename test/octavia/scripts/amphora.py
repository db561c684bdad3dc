"""Octavia's data plane without machines: HAProxy in this network, with the configuration that Octavia
renders for its machines, and packet rules for the sources that Neutron's security groups let in.
Addresses are those of VIP_SUBNET, all of which are local here."""
import ipaddress
import os
import subprocess
import threading

from octavia.amphorae.drivers.noop_driver import driver as amphorae
from octavia.common import constants
from octavia.common.jinja.haproxy.combined_listeners import jinja_cfg
from octavia.db import api as db
from octavia.db import models
from octavia.network import base
from octavia.network.drivers.noop_driver import driver as networks
from oslo_config import cfg

GOING = (constants.PENDING_DELETE, constants.DELETED)
lock = threading.Lock()
allocated = {}  # address -> ID of the load balancer


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
    return [l for l in lb.listeners if l.enabled and l.provisioning_status not in GOING and l.protocol != 'UDP']


def run(manager, lb):
    directory = '/var/lib/octavia/%s' % lb.id
    os.makedirs(directory, exist_ok=True)
    listeners = live(lb)
    with lock:
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


def guard(lb, listeners):
    """Let in who may come, as a security group does. It drops what others send: here they are told at once."""
    name = 'lb-' + lb.id
    rules = ['table inet %s {}' % name, 'delete table inet %s' % name]
    if listeners:
        rules += ['table inet %s { chain in { type filter hook input priority 0;' % name]
        for l in listeners:
            to = 'ip daddr %s tcp dport %d' % (lb.vip.ip_address, l.protocol_port)
            cidrs = [c.cidr for c in l.allowed_cidrs]
            if cidrs:
                rules += ['%s ip saddr != { %s } reject with tcp reset' % (to, ', '.join(cidrs))]
        rules += ['}', '}']
    subprocess.run(['nft', '-f', '-'], input='\n'.join(rules) + '\n', check=True, text=True)


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
        name = 'lb-' + lb_id
        subprocess.run(['nft', '-f', '-'], input='table inet %s {}\ndelete table inet %s\n' % (name, name), check=True, text=True)


def again(manager, listener):
    run(manager, listener.load_balancer)


noop_allocate = networks.NoopManager.allocate_vip
networks.NoopManager.allocate_vip = allocate
networks.NoopManager.deallocate_vip = deallocate
amphorae.NoopManager.update = run
amphorae.NoopManager.delete = again
