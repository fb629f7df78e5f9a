import { afterAll, beforeAll, describe, inject } from 'vitest'
import type { Backend, Bytes } from '../../../src/index.js'
import { cluster, type Deployment, sentinel, standalone, tls, withUser } from './deployments.js'
import { canFetch, other } from './other-servers.js'

/** Tests against a real Redis of their own; reported as skipped when servers were opted out of. */
export function withRedis(
  subject: string,
  start: () => Promise<Deployment>,
  tests: (at: () => Deployment) => void,
): void {
  describe.skipIf(inject('servers').redis === null)(subject, () => {
    let made: Deployment | undefined
    beforeAll(async () => {
      made = await start()
    }, 120_000)
    afterAll(() => made?.stop())
    tests(() => {
      if (made === undefined) throw new Error('Expected the server to be there by now')
      return made
    })
  })
}

const WAYS: Readonly<Record<string, () => Promise<Deployment>>> = {
  'a standalone Redis': standalone,
  'a user with a password': withUser,
  TLS: tls,
  Sentinel: sentinel,
  'a Cluster': cluster,
  ...(canFetch('Valkey 8.0') && {
    'Valkey 8.0': async () => standalone({ binary: await other('Valkey 8.0') }),
  }),
  ...(canFetch('Valkey 8.1') && {
    'a Cluster of Valkey 8.1': async () => cluster({ binary: await other('Valkey 8.1') }),
  }),
}

/** The same tests against every kind of deployment. */
export function everywhere(subject: string, tests: (at: () => Deployment) => void): void {
  for (const [name, start] of Object.entries(WAYS)) withRedis(`${subject}, on ${name}`, start, tests)
}

let serial = 0

/** A key that no other test uses. */
export function freshKey(text = 'key'): string {
  return `${text} ${++serial}`
}

export async function granted(
  backend: Backend<Bytes>,
  key: string,
  ms = 10_000,
  steal = false,
): Promise<string> {
  const { token } = await backend.acquire(key, ms, { steal })
  if (token === undefined) throw new Error('Expected to be granted the lease')
  return token
}

export const bytes = (text: string): Bytes => Buffer.from(text)
export const text = (value: Bytes | undefined): string | undefined => value && Buffer.from(value).toString()
