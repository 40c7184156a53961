"""What bench/kubernetes.py measures, one file a question; and the places it measures it at."""
