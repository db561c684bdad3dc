"""What somebody else does in the project: `strangers` prints what is not of a check, `drift` changes a
load balancer by hand."""
import json
import os
import sys
import time
import urllib.request

PROJECT = os.environ.get('PROJECT', 'shop')


def ask(method, path, body=None):
    request = urllib.request.Request('http://127.0.0.1:9876/v2.0/lbaas/' + path, method=method, data=body and json.dumps(body).encode(), headers={
        'Content-Type': 'application/json', 'X-Project-Id': PROJECT, 'X-Roles': 'load-balancer_admin'})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def strangers():
    for lb in ask('GET', 'loadbalancers?project_id=' + PROJECT)['loadbalancers']:
        if not any(tag.startswith('external-lb:cluster=kit-') for tag in lb['tags']):
            print(lb['id'], lb['name'], lb['vip_address'], lb['provisioning_status'], lb['tags'])
            for listener in ask('GET', 'listeners?loadbalancer_id=' + lb['id'])['listeners']:
                print(' ', listener['id'], listener['protocol_port'], listener['connection_limit'])


def show():
    for kind in 'loadbalancers', 'listeners', 'pools', 'healthmonitors':
        for one in ask('GET', kind)[kind]:
            print(kind, one['id'], one['name'], one['provisioning_status'], one['operating_status'])


def drift():
    mine = [lb for lb in ask('GET', 'loadbalancers')['loadbalancers'] if 'external-lb:service=' + os.environ['SERVICE'] in lb['tags']]
    listener = ask('GET', 'listeners?loadbalancer_id=' + mine[0]['id'])['listeners'][0]
    ask('PUT', 'listeners/' + listener['id'], {'listener': {'connection_limit': 7}})
    settled(mine[0]['id'])
    ask('PUT', 'pools/' + listener['default_pool_id'], {'pool': {'session_persistence': {'type': 'SOURCE_IP'}}})
    settled(mine[0]['id'])


def settled(lb):
    while ask('GET', 'loadbalancers/' + lb)['loadbalancer']['provisioning_status'] != 'ACTIVE':
        time.sleep(0.1)


{'strangers': strangers, 'drift': drift, 'show': show}[sys.argv[1]]()
