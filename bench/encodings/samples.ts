/** Values of the kinds that people cache, the same on every run. */
export function samples(): Record<string, unknown> {
  return {
    'small object': user(5),
    'session, 0.5 kB': session(),
    '50 users': Array.from({ length: 50 }, (_, i) => user(i)),
    'table of 1,000 rows': Array.from({ length: 1000 }, (_, i) => row(i)),
    tree: branch(6),
    'long text': { title: 'On regions', body: TEXT.repeat(200) },
  }
}

const TEXT = 'A corral has regions and holds back a stampede; what is fenced in stays in. '

function user(i: number) {
  return {
    id: i * 7919,
    name: `User Number ${i}`,
    email: `user.${i}@example.com`,
    active: i % 3 !== 0,
    roles: ['reader', ...(i % 4 === 0 ? ['editor'] : [])],
    address: { street: `${i} Main Street`, city: 'Springfield', zip: `${10_000 + i}` },
    score: i * 1.25 + 0.1,
    manager: i % 5 === 0 ? null : i - 1,
  }
}

function session() {
  return {
    id: '3f2b8c1e-77aa-4d59-9d9e-6d1f6f1c2b3a',
    user: user(42),
    csrf: 'c29tZSByYW5kb20gdG9rZW4gZm9yIGZvcm1z',
    createdAt: 1_790_000_000_000,
    seenAt: 1_790_000_100_000,
    locale: 'en-GB',
    flash: [],
    cart: {
      items: [
        { sku: 'A-100', quantity: 2, price: 9.99 },
        { sku: 'B-7', quantity: 1, price: 120 },
      ],
      total: 139.98,
    },
    permissions: ['orders:read', 'orders:write', 'profile:read'],
  }
}

function row(i: number) {
  return {
    id: i,
    sku: `SKU-${i}`,
    price: i * 0.99,
    stock: (i * 31) % 500,
    category: ['tools', 'toys', 'books'][i % 3],
    rating: (i % 50) / 10,
  }
}

function branch(depth: number): unknown {
  return {
    label: `node ${depth}`,
    weight: depth / 3,
    children: depth === 0 ? [] : [branch(depth - 1), branch(depth - 1)],
  }
}
