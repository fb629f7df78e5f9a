// Leads connections to the addresses that the pages speak of to servers of the tests: `LEAD` maps `host:port` to a port here.
import dns from 'node:dns'
import { Socket } from 'node:net'

/** @type {Record<string, number>} */
const ports = JSON.parse(process.env.LEAD ?? '{}')
const hosts = new Set(Object.keys(ports).map((address) => address.split(':')[0] ?? ''))
const { connect } = Socket.prototype
const { lookup } = dns

/** @param {Where} options */
const led = (options) => {
  const port = ports[`${options?.host ?? 'localhost'}:${options?.port}`]
  return port === undefined ? options : { ...options, host: '127.0.0.1', port }
}

/** @typedef {{ host?: string, port?: number | string }} Where */

/** @type {(this: Socket, first: Where | [Where, ...unknown[]], ...rest: unknown[]) => Socket} */
const toOurs = function (first, ...rest) {
  // `net.connect` hands on its arguments as an array that node knows by a symbol; `tls.connect` hands on its options.
  if (Array.isArray(first)) first[0] = led(first[0])
  return Reflect.apply(connect, this, [Array.isArray(first) ? first : led(first), ...rest])
}
Object.assign(Socket.prototype, { connect: toOurs })

// The client of a Cluster looks its nodes' names up before it connects.
/** @type {(host: string, ...rest: unknown[]) => void} */
const known = (host, ...rest) =>
  Reflect.apply(lookup, dns, [hosts.has(host) && host !== 'localhost' ? '127.0.0.1' : host, ...rest])
Object.assign(dns, { lookup: known })
