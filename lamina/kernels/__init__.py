"""Row 2: pure array maths with its gradients, without variables or layers."""
