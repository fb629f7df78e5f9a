import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { root } from '../../.ci/entries.mjs'
import { temporaryFolder } from '../backends/lmdb/support.js'

test('a second quickstart finds the entries of the first one, invalidates them and creates them again', () => {
  const cwd = temporaryFolder()
  const run = () =>
    execFileSync(process.execPath, [`${root}.ci/run-ts.mjs`, `${root}examples/quickstart.ts`], {
      cwd,
      encoding: 'utf8',
    })
  const order = (text: string) =>
    [...text.matchAll(/^ {2}(warm start|invalidate the region|cold|warm) /gm)].map(([, step]) => step)
  expect(order(run())).toEqual(['cold', 'warm'])
  const second = run()
  expect(order(second)).toEqual(['warm start', 'invalidate the region', 'cold', 'warm'])
  expect(second).toMatch(/an earlier run left \d+ features; the query did not run/)
  expect(second).toMatch(/1 run of the query served 1000 callers/)
  expect(second).toMatch(/read after the invalidation: new data; kept: new data/)
}, 120_000)
