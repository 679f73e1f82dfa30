//! Medians, and how sure a ratio is.

/// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1.
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Of the figures that there are.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 if middle > 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted.get(middle).copied().unwrap_or(f64::NAN),
    }
}

/// The geometric mean of b/a over rounds taken in pairs, with the 95 % interval that Student's t on the logarithms
/// gives. Pairs without a figure, or with a zero, are left out; a single pair has no interval.
pub fn ratio(a: &[f64], b: &[f64]) -> (f64, Option<(f64, f64)>) {
    let logs = a.iter().zip(b).map(|(a, b)| (b / a).ln());
    let logs: Vec<f64> = logs.filter(|l| l.is_finite()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    if logs.len() < 2 {
        return (mean.exp(), None);
    }
    let variance = logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T95.get(logs.len() - 2).copied().unwrap_or(1.96);
    let half = t * (variance / n).sqrt();
    (mean.exp(), Some(((mean - half).exp(), (mean + half).exp())))
}

/// Slope of the least-squares line through the points.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let covariance: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if spread > 0.0 { covariance / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_as_sure_as_its_rounds_agree() {
        let (mean, interval) = ratio(&[1.0, 2.0, 4.0], &[2.0, 4.0, 8.0]);
        let (low, high) = interval.unwrap();
        assert!((mean - 2.0).abs() < 1e-9 && (low - 2.0).abs() < 1e-9 && (high - 2.0).abs() < 1e-9);
        // ln 2 and ln 4: mean 1.0397, deviation 0.4901, t 12.706, half 4.4035.
        let (mean, interval) = ratio(&[1.0, 1.0], &[2.0, 4.0]);
        let (low, high) = interval.unwrap();
        assert!((mean - 8f64.sqrt()).abs() < 1e-9 && (low - 0.03460).abs() < 1e-4, "{low}");
        assert!((high - 231.2).abs() < 1.0, "{high}");
        assert!(ratio(&[1.0], &[3.0]).1.is_none() && ratio(&[1.0, 0.0], &[1.0, 1.0]).1.is_none());
        let (mean, interval) = ratio(&[1.0, f64::NAN, 1.0], &[2.0, 5.0, 2.0]);
        assert!((mean - 2.0).abs() < 1e-9 && interval.is_some() && ratio(&[], &[]).0.is_nan());
    }

    #[test]
    fn medians_and_slopes() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
