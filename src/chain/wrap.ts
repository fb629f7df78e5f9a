import type { Backend } from '../backend/backend.js'
import type { Bytes } from '../backend/cached-value.js'
import { CorralError, formatValue } from '../base/errors.js'
import { seeingReads } from './proxy.js'

// biome-ignore lint/suspicious/noExplicitAny: the one place where a layer of any representation is accepted
type Layer = (next: any) => Backend<any>
/** What a layer expects below it. A transparent layer infers `unknown`. */
type In<P> = P extends (next: Backend<infer X>) => unknown ? X : never
/** What a layer offers above it, over `I`. */
type Out<P, I> = unknown extends In<P> ? I : P extends (next: never) => Backend<infer O> ? O : never
/** Nothing to add where the layer fits; otherwise the sentence that the compiler shows at the layer that is wrong. */
type Need<P, I, N extends string> =
  unknown extends In<P>
    ? unknown
    : [In<P>, I] extends [I, In<P>]
      ? unknown
      : [I] extends [Bytes]
        ? `${N} works on values, but below it are bytes: put an encoding such as msgpack() below it`
        : `${N} works on bytes, but below it are values already: move it below the encoding, or drop it`

type O1<A, P1> = Out<P1, A>
type O2<A, P1, P2> = Out<P2, O1<A, P1>>
type O3<A, P1, P2, P3> = Out<P3, O2<A, P1, P2>>
type O4<A, P1, P2, P3, P4> = Out<P4, O3<A, P1, P2, P3>>
type O5<A, P1, P2, P3, P4, P5> = Out<P5, O4<A, P1, P2, P3, P4>>
type O6<A, P1, P2, P3, P4, P5, P6> = Out<P6, O5<A, P1, P2, P3, P4, P5>>
type O7<A, P1, P2, P3, P4, P5, P6, P7> = Out<P7, O6<A, P1, P2, P3, P4, P5, P6>>
type O8<A, P1, P2, P3, P4, P5, P6, P7, P8> = Out<P8, O7<A, P1, P2, P3, P4, P5, P6, P7>>

/**
 * Puts proxies around a backend, listed from the backend outwards: the last one sees a caller's key and value first.
 * A layer that cannot work where it stands does not compile. More than eight layers: nest `wrap`.
 * @throws CorralError `ERR_CHAIN` when something that is no backend or no proxy was passed.
 */
export function wrap<A>(backend: Backend<A>): Backend<A>
export function wrap<A, P1 extends Layer>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
): Backend<O1<A, P1>>
export function wrap<A, P1 extends Layer, P2 extends Layer>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
): Backend<O2<A, P1, P2>>
export function wrap<A, P1 extends Layer, P2 extends Layer, P3 extends Layer>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
  p3: P3 & Need<P3, O2<A, P1, P2>, 'the 3rd proxy'>,
): Backend<O3<A, P1, P2, P3>>
export function wrap<A, P1 extends Layer, P2 extends Layer, P3 extends Layer, P4 extends Layer>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
  p3: P3 & Need<P3, O2<A, P1, P2>, 'the 3rd proxy'>,
  p4: P4 & Need<P4, O3<A, P1, P2, P3>, 'the 4th proxy'>,
): Backend<O4<A, P1, P2, P3, P4>>
export function wrap<
  A,
  P1 extends Layer,
  P2 extends Layer,
  P3 extends Layer,
  P4 extends Layer,
  P5 extends Layer,
>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
  p3: P3 & Need<P3, O2<A, P1, P2>, 'the 3rd proxy'>,
  p4: P4 & Need<P4, O3<A, P1, P2, P3>, 'the 4th proxy'>,
  p5: P5 & Need<P5, O4<A, P1, P2, P3, P4>, 'the 5th proxy'>,
): Backend<O5<A, P1, P2, P3, P4, P5>>
export function wrap<
  A,
  P1 extends Layer,
  P2 extends Layer,
  P3 extends Layer,
  P4 extends Layer,
  P5 extends Layer,
  P6 extends Layer,
>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
  p3: P3 & Need<P3, O2<A, P1, P2>, 'the 3rd proxy'>,
  p4: P4 & Need<P4, O3<A, P1, P2, P3>, 'the 4th proxy'>,
  p5: P5 & Need<P5, O4<A, P1, P2, P3, P4>, 'the 5th proxy'>,
  p6: P6 & Need<P6, O5<A, P1, P2, P3, P4, P5>, 'the 6th proxy'>,
): Backend<O6<A, P1, P2, P3, P4, P5, P6>>
export function wrap<
  A,
  P1 extends Layer,
  P2 extends Layer,
  P3 extends Layer,
  P4 extends Layer,
  P5 extends Layer,
  P6 extends Layer,
  P7 extends Layer,
>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
  p3: P3 & Need<P3, O2<A, P1, P2>, 'the 3rd proxy'>,
  p4: P4 & Need<P4, O3<A, P1, P2, P3>, 'the 4th proxy'>,
  p5: P5 & Need<P5, O4<A, P1, P2, P3, P4>, 'the 5th proxy'>,
  p6: P6 & Need<P6, O5<A, P1, P2, P3, P4, P5>, 'the 6th proxy'>,
  p7: P7 & Need<P7, O6<A, P1, P2, P3, P4, P5, P6>, 'the 7th proxy'>,
): Backend<O7<A, P1, P2, P3, P4, P5, P6, P7>>
export function wrap<
  A,
  P1 extends Layer,
  P2 extends Layer,
  P3 extends Layer,
  P4 extends Layer,
  P5 extends Layer,
  P6 extends Layer,
  P7 extends Layer,
  P8 extends Layer,
>(
  backend: Backend<A>,
  p1: P1 & Need<P1, A, 'the 1st proxy'>,
  p2: P2 & Need<P2, O1<A, P1>, 'the 2nd proxy'>,
  p3: P3 & Need<P3, O2<A, P1, P2>, 'the 3rd proxy'>,
  p4: P4 & Need<P4, O3<A, P1, P2, P3>, 'the 4th proxy'>,
  p5: P5 & Need<P5, O4<A, P1, P2, P3, P4>, 'the 5th proxy'>,
  p6: P6 & Need<P6, O5<A, P1, P2, P3, P4, P5>, 'the 6th proxy'>,
  p7: P7 & Need<P7, O6<A, P1, P2, P3, P4, P5, P6>, 'the 7th proxy'>,
  p8: P8 & Need<P8, O7<A, P1, P2, P3, P4, P5, P6, P7>, 'the 8th proxy'>,
): Backend<O8<A, P1, P2, P3, P4, P5, P6, P7, P8>>
export function wrap(backend: Backend, ...layers: Layer[]): Backend {
  let chain = expectBackend(backend, 'wrap() to start from a backend such as memory()')
  layers.forEach((layer, i) => {
    if (typeof layer !== 'function')
      throw new CorralError(
        'ERR_CHAIN',
        `Expected proxy ${i + 1} of wrap() to be a function from backend to backend, got ${formatValue(layer)}.`,
      )
    const around = expectBackend(
      layer(chain),
      `proxy ${i + 1} of wrap() (${layer.name || 'unnamed'}) to return a backend`,
    )
    chain = seeingReads(around, chain)
  })
  return chain
}

/** @throws CorralError `ERR_CHAIN` unless the value has what every backend has. */
export function expectBackend(value: unknown, expectation: string): Backend {
  const candidate = value as Partial<Backend> | null | undefined
  if (
    typeof candidate === 'object' &&
    candidate !== null &&
    typeof candidate.get === 'function' &&
    typeof candidate.acquire === 'function'
  )
    return candidate as Backend
  throw new CorralError(
    'ERR_CHAIN',
    `Expected ${expectation}, got ${formatValue(value)}. Complete your own with defineBackend(), and call factories: memory(), not memory.`,
  )
}
