//! Random numbers that cost a nanosecond, and draws from distributions in constant time.

/// SplitMix64: passes what a load generator needs, and any seed will do.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// In (0, 1].
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// From the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Walker's alias table: an index drawn by weight in constant time.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// The share of each column that is its own, and the index that has the rest.
    columns: Vec<(f32, u32)>,
}

impl Weighted {
    /// `weights` is not empty, and its entries are finite and not negative.
    pub fn new(weights: &[f64]) -> Weighted {
        let total: f64 = weights.iter().sum();
        let mut share: Vec<f64> = weights.iter().map(|w| w * weights.len() as f64 / total).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..share.len()).partition(|i| share[*i] < 1.0);
        let mut columns: Vec<(f32, u32)> = (0..share.len()).map(|i| (1.0, i as u32)).collect();
        while let (Some(small), Some(large)) = (low.pop(), high.last().copied()) {
            columns[small] = (share[small] as f32, large as u32);
            share[large] -= 1.0 - share[small];
            if share[large] < 1.0 {
                high.pop();
                low.push(large);
            }
        }
        Weighted { columns }
    }

    /// The nth index weighs 1 / (n + 1)^exponent.
    pub fn zipf(count: u32, exponent: f64) -> Weighted {
        let weights: Vec<f64> = (1..=count).map(|rank| f64::from(rank).powf(-exponent)).collect();
        Weighted::new(&weights)
    }

    pub fn draw(&self, random: &mut Random) -> u32 {
        let column = random.below(self.columns.len() as u64) as usize;
        let (own, other) = self.columns[column];
        if random.unit() as f32 <= own { column as u32 } else { other }
    }
}
