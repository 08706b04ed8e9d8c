// heatmap
